/*
 * A list of devices, registered as a whole or not at all: the body is in a file, and goes to the database part by part in one transaction.
 */
#ifndef FLEETSTATE_COLLECTOR_API_IMPORT_H
#define FLEETSTATE_COLLECTOR_API_IMPORT_H

#include "collector/query.h"

void api_import(struct request *, struct response *);

#endif
