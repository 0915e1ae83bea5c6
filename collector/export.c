#include "collector/export.h"

/* The first piece has few rows, and comes soon. Each of the others is asked for as many as have PIECE_BYTES, if they are like those before them; it takes
   none beyond PIECE_MOST, for devices may have filled their texts to the brim. */
#define ROWS_FIRST 1000
#define ROWS_LEAST 16
#define ROWS_MOST 16000
#define PIECE_BYTES (2 * 1024 * 1024)
#define PIECE_MOST (2 * PIECE_BYTES)

/* One statement's. */
struct piece {
	struct request *request;
	struct response *response;
	const struct export_source *source;
	int64_t asked, came;
	bool more; /* there is behind the last one that was taken */
};

static void
begin(struct piece *piece)
{
	struct response *response = piece->response;

	if (response->type != NULL)
		return;
	response_json(response, (struct slice){NULL, 0});
	response->type = piece->source->type;
	response->streams = true;
	if (!piece->request->reading.begun)
		piece->source->head(piece->source->context, response);
}

static bool
take(void *context, const PGresult *row)
{
	struct piece *piece = context;

	begin(piece);
	if (piece->response->len >= PIECE_MOST || piece->response->failed) {
		piece->more = true;
		return false;
	}
	piece->came++;
	piece->more = piece->source->row(piece->source->context, piece->response, row) || piece->came == piece->asked;
	return true;
}

static int64_t
rows_of(const struct response *response, uint64_t told)
{
	uint64_t rows = told * PIECE_BYTES / (response->len + 1);

	if (rows < ROWS_LEAST)
		return ROWS_LEAST;
	return rows < ROWS_MOST ? (int64_t)rows : ROWS_MOST;
}

void
export_piece(struct request *request, struct response *response, const struct export_source *source)
{
	const uint64_t before = request->reading.told;

	/* A piece in which nothing was found is none. */
	while (request->reading.told == before && !request->reading.ended) {
		struct piece piece = {request, response, source, request->reading.rows, 0, false};
		struct call call;

		if (piece.asked == 0)
			piece.asked = ROWS_FIRST;
		source->ask(source->context, piece.asked, &call);
		if (query_rows(request, response, &call, source->limited, take, &piece) < 0)
			return;
		begin(&piece);
		request->reading.begun = true;
		request->reading.ended = !piece.more;
	}
	if (request->reading.told > before)
		request->reading.rows = rows_of(response, request->reading.told - before);
	if (request->reading.ended && response->type != NULL)
		source->tail(source->context, response);
}
