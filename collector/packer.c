#include "collector/packer.h"

#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#define GZIP_LEVEL 4
#define GZIP_WINDOW (15 + 16) /* zlib.h: 16 more stand for the gzip format */
#define ZSTD_LEVEL 3
#define ZSTD_WINDOW 17 /* bits: more is several megabytes for each answer that is under way, and finds little more */
#define FLUSH 1024 /* bytes: more than ending a block, and then the whole, adds */

struct packer {
	enum coding coding;
	z_stream gzip;
	ZSTD_CCtx *zstd;
};

static bool
begin(struct packer *p)
{
	if (p->coding == CODING_GZIP)
		return deflateInit2(&p->gzip, GZIP_LEVEL, Z_DEFLATED, GZIP_WINDOW, 8, Z_DEFAULT_STRATEGY) == Z_OK;
	p->zstd = ZSTD_createCCtx();
	return p->zstd != NULL && !ZSTD_isError(ZSTD_CCtx_setParameter(p->zstd, ZSTD_c_compressionLevel, ZSTD_LEVEL)) &&
	       !ZSTD_isError(ZSTD_CCtx_setParameter(p->zstd, ZSTD_c_windowLog, ZSTD_WINDOW));
}

struct packer *
packer_new(enum coding coding)
{
	struct packer *p = calloc(1, sizeof *p);

	if (p == NULL)
		return NULL;
	p->coding = coding;
	if (begin(p))
		return p;
	packer_free(p);
	return NULL;
}

void
packer_free(struct packer *p)
{
	if (p == NULL)
		return;
	if (p->coding == CODING_GZIP)
		deflateEnd(&p->gzip);
	ZSTD_freeCCtx(p->zstd);
	free(p);
}

static int
add_gzip(z_stream *stream, struct slice bytes, bool ends, uint8_t *out, size_t *len)
{
	stream->next_in = (z_const Bytef *)bytes.at;
	stream->avail_in = (uInt)bytes.len;
	stream->next_out = out;
	stream->avail_out = (uInt)*len;
	if (deflate(stream, ends ? Z_FINISH : Z_SYNC_FLUSH) != (ends ? Z_STREAM_END : Z_OK) || stream->avail_in > 0)
		return -1;
	*len -= stream->avail_out;
	return 0;
}

static int
add_zstd(ZSTD_CCtx *context, struct slice bytes, bool ends, uint8_t *out, size_t *len)
{
	ZSTD_inBuffer from = {.src = bytes.at, .size = bytes.len};
	ZSTD_outBuffer to = {.dst = out, .size = *len};

	if (ZSTD_compressStream2(context, &to, &from, ends ? ZSTD_e_end : ZSTD_e_flush) != 0)
		return -1;
	*len = to.pos;
	return 0;
}

int
packer_add(struct packer *p, struct slice bytes, bool ends, uint8_t **out, size_t *len)
{
	size_t room =
		FLUSH + (p->coding == CODING_GZIP ? deflateBound(&p->gzip, bytes.len) : ZSTD_compressBound(bytes.len));
	uint8_t *made = malloc(room);
	int rc = -1;

	if (made == NULL)
		return -1;
	rc = p->coding == CODING_GZIP ? add_gzip(&p->gzip, bytes, ends, made, &room)
				      : add_zstd(p->zstd, bytes, ends, made, &room);
	if (rc < 0) {
		free(made);
		return -1;
	}
	*out = made;
	*len = room;
	return 0;
}
