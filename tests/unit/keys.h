/*
 * A key of each algorithm, and a directory for the files of keys. A group's setup is make_keys, its teardown free_keys.
 */
#ifndef FLEETSTATE_TESTS_KEYS_H
#define FLEETSTATE_TESTS_KEYS_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "schema/key.h"

static const int algorithms[] = {-7, -35, -8};

#define ALGORITHMS (sizeof algorithms / sizeof algorithms[0])

static char directory[] = "/tmp/test_keys.XXXXXX";
static struct cose_key *keys[ALGORITHMS];

static void
path_of(char path[64], const char *name)
{
	snprintf(path, 64, "%s/%s", directory, name);
}

static int
make_keys(void **state)
{
	char path[64], name[16], error[256];

	(void)state;
	if (mkdtemp(directory) == NULL)
		return -1;
	for (size_t i = 0; i < ALGORITHMS; i++) {
		snprintf(name, sizeof name, "key%zu", i);
		path_of(path, name);
		if (cose_key_generate(algorithms[i], path) == -1)
			return -1;
		keys[i] = cose_key_open(path, error);
		unlink(path);
		if (keys[i] == NULL)
			return -1;
	}
	return 0;
}

static int
free_keys(void **state)
{
	(void)state;
	for (size_t i = 0; i < ALGORITHMS; i++)
		cose_key_free(keys[i]);
	return rmdir(directory);
}

#endif
