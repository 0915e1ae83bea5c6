/* A list of devices as somebody's spreadsheet wrote it: in one piece and byte by byte it is the same, and what comes out is bounded. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "collector/import.h"
#include "schema/key.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(bool condition)
{
	if (!condition)
		abort();
}

struct told {
	uint64_t rows, faults;
	uint8_t digest[DIGEST_SIZE];
};

static void
on_row(void *context, uint64_t line, const json_t *document)
{
	struct told *told = context;
	char *text = json_dumps(document, JSON_COMPACT | JSON_SORT_KEYS);

	require(text != NULL && line > 0);
	sha256_pair((struct slice){told->digest, DIGEST_SIZE}, (struct slice){(uint8_t *)text, strlen(text)},
		    told->digest);
	told->rows++;
	free(text);
}

static void
on_fault(void *context, uint64_t line, const char *column, const char *problem)
{
	struct told *told = context;
	struct import_faults faults = {NULL, 0};

	require(line > 0 && problem[0] != '\0');
	import_fault_add(&faults, line, column, problem);
	require(faults.n == 1 && json_array_size(faults.list) == 1);
	import_faults_free(&faults);
	told->faults++;
}

static struct told
read_in_pieces(const uint8_t *data, size_t size, size_t piece)
{
	struct told told = {.rows = 0};
	struct import *import = import_new(&(struct import_sink){on_row, on_fault, &told});

	require(import != NULL);
	for (size_t at = 0; at < size; at += piece)
		if (!import_feed(import, (const char *)data + at, size - at < piece ? size - at : piece))
			break;
	import_end(import);
	import_free(import);
	return told;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct told whole = read_in_pieces(data, size, size + 1), parts = read_in_pieces(data, size, 7);

	require(whole.rows == parts.rows && whole.faults == parts.faults &&
		memcmp(whole.digest, parts.digest, DIGEST_SIZE) == 0);
	return 0;
}
