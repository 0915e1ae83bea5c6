/*
 * The one queue of the pipeline: a ring of slots in the order of arrival, bounded in slots and in bytes. The subscriber puts messages in, workers
 * finish theirs in any order, and the store stage takes the longest finished run from the front; so a device's order is the broker's.
 */
#ifndef FLEETSTATE_COLLECTOR_QUEUE_H
#define FLEETSTATE_COLLECTOR_QUEUE_H

#include <stdbool.h>

#include "collector/message.h"

struct queue;

struct queue *queue_new(size_t slots, size_t bytes, unsigned workers) WARN_UNUSED;
void queue_free(struct queue *);

/* Copies reports in that came together, n of them, LIMIT_SEQUENCE_REPORTS at most. Waits up to `wait_ms` while it is full. Returns how many it took, from
   the first on: fewer when it is still full, or closed, or our clock is wrong (clock.h). */
size_t queue_put(struct queue *, unsigned shard, struct slice topic, const struct slice *reports, size_t n, unsigned wait_ms) WARN_UNUSED;

/* The worker's next messages, oldest first; waits up to `wait_ms` for some. False when the queue is closed and holds nothing more for it. */
bool queue_take(struct queue *, unsigned worker, unsigned wait_ms, struct message **run, size_t max, size_t *n) WARN_UNUSED;
/* They may be stored, or were refused. */
void queue_finish(struct queue *, struct message **run, size_t n);

/* Takes a message that has to wait out of its slot, which is then passed by. Counts on in bytes and by shard. NULL if memory ran out. */
struct message *queue_detach(struct queue *, struct message *) WARN_UNUSED;
void queue_return(struct queue *, struct message *);	/* finished after all */
void queue_discard(struct queue *, struct message *);	/* gone: the device sends it again */

/* The longest finished run from the front, and what was returned: waits up to `wait_ms` for the first one, then up to `window_ms` for `max`, but no
   longer than `news_ms` once one of them says something new. False when the queue is closed and holds nothing more. */
bool queue_batch(struct queue *, unsigned wait_ms, unsigned window_ms, unsigned news_ms, struct message **batch, size_t max, size_t *n) WARN_UNUSED;
/* Frees the messages of the last batch. */
void queue_release(struct queue *);

/* Nothing more is put in; what is in it goes its way. */
void queue_close(struct queue *);
/* How many messages of the shard are in it, detached ones too. */
size_t queue_of_shard(struct queue *, unsigned shard);
unsigned queue_fill(struct queue *);	/* percent, of slots or of bytes */
/* No message in it was received before this, in microseconds since 1970. INT64_MAX when it is empty; those that wait for a certificate do not count. */
int64_t queue_oldest(struct queue *);

#endif
