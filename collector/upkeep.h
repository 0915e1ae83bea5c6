/*
 * What people have to keep up for this collector: its certificates and the trust anchors before they end, room on the disks that it sees and for the
 * database. Says what there is to do, in words that stay the same while it is so.
 */
#ifndef FLEETSTATE_COLLECTOR_UPKEEP_H
#define FLEETSTATE_COLLECTOR_UPKEEP_H

#include <stdbool.h>

#include "collector/enrol.h"
#include "collector/settings.h"
#include "collector/tls.h"

#define UPKEEP_WHY 512 /* bytes of what is said */

struct upkeep;

/* `tls` is the HTTP interface's; NULL: it has none. NULL if memory ran out. */
struct upkeep *upkeep_new(const struct settings *, struct tls *tls) WARN_UNUSED;
void upkeep_free(struct upkeep *);

void upkeep_set_anchors(struct upkeep *, const struct anchors *);
/* Whether one ends soon, can't be read, or is not in use. `now` is in seconds since 1970. */
bool upkeep_certificates(const struct upkeep *, int64_t now, char why[UPKEEP_WHY]) WARN_UNUSED;
/* Whether one is nearly full, or can't be looked at. Once it was, a tenth more has to be free for it to be over. `database_bytes`: what the database
   has grown to; -1: not known. */
bool upkeep_disks(struct upkeep *, int64_t database_bytes, char why[UPKEEP_WHY]) WARN_UNUSED;

#endif
