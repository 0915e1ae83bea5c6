/*
 * One page of a list: `limit` and `cursor` of the request, and the answer {"items": [...], "next": "<cursor>"|null} with its Link header.
 */
#ifndef FLEETSTATE_COLLECTOR_PAGE_H
#define FLEETSTATE_COLLECTOR_PAGE_H

#include "collector/cursor.h"
#include "collector/query.h"

#define PAGE_DEFAULT 100
#define PAGE_MAX 1000

/* Prints a row's item: as JSON, or as a line of comma-separated values. */
typedef void page_printer(struct response *, const PGresult *, int row, bool csv, const void *context);

struct page {
	int64_t limit;
	bool after;		/* there was a cursor */
	struct cursor cursor;
	page_printer *print;	/* NULL: the first column is the item's JSON */
	const void *context;	/* of that */
	bool searched;		/* to its end: a row without an item is only not told */
	uint64_t wire[1 + CURSOR_KEYS];	/* limit + 1 and the keys as the statement takes them */
};

/* Which rows of (item's JSON, keys ...[, text]) are a page: no more than its limit, nor than its bytes, but for one item that alone is larger. A list that
   was not searched to its end has a last row without an item, which says where to go on. */

/* -1: the response is the problem. */
int page_open(struct request *, struct response *, struct page *) WARN_UNUSED;
/* The same for a list that has cursors of another kind: how many items. */
int page_limit(const struct request *, struct response *, int64_t *limit) WARN_UNUSED;
/* The Link header (RFC 8288) to the page that begins at the cursor. */
void page_link(const struct request *, struct response *, const char *cursor);
/* Adds the call's last parameters: limit + 1, and `keys` keys of the item that the page begins after. The page must outlive the call. */
void page_bind(struct page *, struct call *, int keys);
/* The same, and a text: NULL without a cursor. */
void page_bind_text(struct page *, struct call *, int keys);
/* Answers from such rows. `head`: members to go before items, as a JSON object; or absent. */
void page_answer(struct request *, struct response *, const struct page *, const PGresult *, int keys, struct slice head);

/* Whether a reader of the feed may go on behind the position, as a row of QUERY_EVENT_PLACE has it: 410 when what stood there is gone. -1: the response
   is the problem. */
int page_judge_place(struct response *, const PGresult *place, int64_t after) WARN_UNUSED;

/* All of it for a list that has one key: opens, adds limit and key to the filters that the call has, asks, answers. */
void page_query(struct request *, struct response *, struct call *);
/* The same for a list of a device's, whose page is open: calls[0] looks whether there is such a device, and may give the head, calls[1] lists. */
void page_of_device(struct request *, struct response *, struct page *, struct call calls[2], int keys);
/* page_query without any filter. */
void page_list(struct request *, struct response *, enum query);

/* The place that a row has behind its item. */
void page_place(const PGresult *, int row, int keys, struct cursor *);

/* page_answer as comma-separated values; `columns` as csv_head takes them. The next page is in the Link header only. */
void page_csv(struct request *, struct response *, const struct page *, const PGresult *, int keys, const char *columns);

#endif
