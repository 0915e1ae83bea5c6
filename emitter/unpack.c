#include "emitter/unpack.h"

#include <dlfcn.h>
#include <errno.h>
#include <lz4frame.h>
#include <lzma.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#define PIECE 65536
#define XZ_MEMORY (128 * 1024 * 1024) /* the highest level's dictionary is half of this */

#define SYMBOL(name) __typeof__(name) *name

static bool
resolve(void *library, const char *name, void *function)
{
	void *symbol = library ? dlsym(library, name) : NULL;

	memcpy(function, &symbol, sizeof symbol);
	return symbol != NULL;
}

static int
missing(const char *library, char why[CHILD_WHY])
{
	snprintf(why, CHILD_WHY, "%s is not installed here", library);
	return -1;
}

static int
broken(char why[CHILD_WHY])
{
	snprintf(why, CHILD_WHY, "it is not packed soundly");
	return -1;
}

/* Also 0 at the end; -1. */
static ssize_t
fill(int file, uint8_t *piece)
{
	ssize_t n;

	do
		n = read(file, piece, PIECE);
	while (n < 0 && errno == EINTR);
	return n;
}

/* Streams may follow each other, as in an APKINDEX.tar.gz. */
static int
gunzip(int file, int out, char why[CHILD_WHY])
{
	void *library = dlopen("libz.so.1", RTLD_NOW);
	static uint8_t from[PIECE], to[PIECE];
	SYMBOL(inflateInit2_);
	SYMBOL(inflate);
	SYMBOL(inflateReset);
	z_stream z = {0};
	bool ended = false;
	ssize_t n;

	if (!resolve(library, "inflateInit2_", &inflateInit2_) || !resolve(library, "inflate", &inflate) ||
	    !resolve(library, "inflateReset", &inflateReset))
		return missing("libz", why);
	if (inflateInit2_(&z, 15 + 16, ZLIB_VERSION, (int)sizeof z) != Z_OK)
		return broken(why);
	while ((n = fill(file, from)) > 0) {
		z.next_in = from;
		z.avail_in = (uInt)n;
		do {
			int result;

			if (ended && inflateReset(&z) != Z_OK)
				return broken(why);
			z.next_out = to;
			z.avail_out = sizeof to;
			result = inflate(&z, Z_NO_FLUSH);
			if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR)
				return broken(why);
			ended = result == Z_STREAM_END;
			if (child_write(out, (struct slice){to, sizeof to - z.avail_out}) < 0)
				return 0;
		} while (z.avail_in > 0 || z.avail_out == 0);
	}
	return n < 0 || !ended ? broken(why) : 0;
}

static int
unlz4(int file, int out, char why[CHILD_WHY])
{
	void *library = dlopen("liblz4.so.1", RTLD_NOW);
	static uint8_t from[PIECE], to[PIECE];
	SYMBOL(LZ4F_createDecompressionContext);
	SYMBOL(LZ4F_decompress);
	SYMBOL(LZ4F_isError);
	LZ4F_dctx *context;
	size_t expected = 1;
	ssize_t n;

	if (!resolve(library, "LZ4F_createDecompressionContext", &LZ4F_createDecompressionContext) ||
	    !resolve(library, "LZ4F_decompress", &LZ4F_decompress) || !resolve(library, "LZ4F_isError", &LZ4F_isError))
		return missing("liblz4", why);
	if (LZ4F_isError(LZ4F_createDecompressionContext(&context, LZ4F_VERSION)))
		return broken(why);
	while ((n = fill(file, from)) > 0) {
		size_t at = 0, took, made;

		do {
			took = (size_t)n - at;
			made = sizeof to;
			expected = LZ4F_decompress(context, to, &made, from + at, &took, NULL);
			if (LZ4F_isError(expected))
				return broken(why);
			at += took;
			if (child_write(out, (struct slice){to, made}) < 0)
				return 0;
		} while (at < (size_t)n || made == sizeof to);
	}
	return n < 0 || expected != 0 ? broken(why) : 0;
}

static int
unxz(int file, int out, char why[CHILD_WHY])
{
	void *library = dlopen("liblzma.so.5", RTLD_NOW);
	static uint8_t from[PIECE], to[PIECE];
	SYMBOL(lzma_stream_decoder);
	SYMBOL(lzma_code);
	lzma_stream z = LZMA_STREAM_INIT;
	lzma_ret result = LZMA_OK;
	ssize_t n;

	if (!resolve(library, "lzma_stream_decoder", &lzma_stream_decoder) ||
	    !resolve(library, "lzma_code", &lzma_code))
		return missing("liblzma", why);
	if (lzma_stream_decoder(&z, XZ_MEMORY, LZMA_CONCATENATED) != LZMA_OK)
		return broken(why);
	do {
		n = fill(file, from);
		if (n < 0)
			return broken(why);
		z.next_in = from;
		z.avail_in = (size_t)n;
		do {
			z.next_out = to;
			z.avail_out = sizeof to;
			result = lzma_code(&z, n > 0 ? LZMA_RUN : LZMA_FINISH);
			if (result != LZMA_OK && result != LZMA_STREAM_END && result != LZMA_BUF_ERROR)
				return broken(why);
			if (child_write(out, (struct slice){to, sizeof to - z.avail_out}) < 0)
				return 0;
		} while (result == LZMA_OK && (z.avail_in > 0 || z.avail_out == 0));
	} while (n > 0);
	return result == LZMA_STREAM_END ? 0 : broken(why);
}

static int
unzstd(int file, int out, char why[CHILD_WHY])
{
	void *library = dlopen("libzstd.so.1", RTLD_NOW);
	static uint8_t from[PIECE], to[PIECE];
	SYMBOL(ZSTD_createDStream);
	SYMBOL(ZSTD_decompressStream);
	SYMBOL(ZSTD_isError);
	ZSTD_DStream *context;
	size_t expected = 1;
	ssize_t n;

	if (!resolve(library, "ZSTD_createDStream", &ZSTD_createDStream) ||
	    !resolve(library, "ZSTD_decompressStream", &ZSTD_decompressStream) ||
	    !resolve(library, "ZSTD_isError", &ZSTD_isError))
		return missing("libzstd", why);
	context = ZSTD_createDStream();
	if (!context)
		return broken(why);
	while ((n = fill(file, from)) > 0) {
		ZSTD_inBuffer in = {from, (size_t)n, 0};
		ZSTD_outBuffer made;

		do {
			made = (ZSTD_outBuffer){to, sizeof to, 0};
			expected = ZSTD_decompressStream(context, &made, &in);
			if (ZSTD_isError(expected))
				return broken(why);
			if (child_write(out, (struct slice){to, made.pos}) < 0)
				return 0;
		} while (in.pos < in.size || made.pos == made.size);
	}
	return n < 0 || expected != 0 ? broken(why) : 0;
}

static const struct kind {
	const char *suffix;
	int (*run)(int file, int out, char why[CHILD_WHY]);
} kinds[UNPACK_KINDS] = {
	[UNPACK_GZIP] = {".gz", gunzip},
	[UNPACK_LZ4] = {".lz4", unlz4},
	[UNPACK_XZ] = {".xz", unxz},
	[UNPACK_ZSTD] = {".zst", unzstd},
};

const char *
unpack_suffix(enum unpack_kind kind)
{
	return kinds[kind].suffix;
}

static int
work(void *context, int input, int out, char why[CHILD_WHY])
{
	const struct kind *kind = context;

	return kind->run(input, out, why);
}

int
unpack(enum unpack_kind kind, int file, bool (*take)(void *, struct slice), void *taker, char why[CHILD_WHY])
{
	struct kind one = kinds[kind];
	struct child child = {.work = work, .context = &one, .take = take, .taker = taker, .input = file};

	return child_run(&child, why);
}
