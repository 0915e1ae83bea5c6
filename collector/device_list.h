/*
 * Lists of devices: the filters, the order and the members that a request names, as a page or as the whole list. The searching is the database's
 * (024_lists.sql).
 */
#ifndef FLEETSTATE_COLLECTOR_DEVICE_LIST_H
#define FLEETSTATE_COLLECTOR_DEVICE_LIST_H

#include <jansson.h>

#include "collector/request.h"

/* Answers it. `filters`: an object, of what the route itself narrows it to; gets more members. */
void device_list(struct request *, struct response *, json_t *filters);

#endif
