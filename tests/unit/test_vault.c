/* Sealed secrets: they open under their key, for their sink, as they were; and not otherwise. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "collector/vault.h"

#define SLICE(text) ((struct slice){(const uint8_t *)(text), strlen(text)})

static const struct vault_key key = {{1, 2, 3}};

static void
what_is_sealed_opens(void **state)
{
	uint8_t sealed[64], again[64], out[64];
	size_t n = vault_close(&key, SLICE("for"), SLICE("secret"), sealed);

	(void)state;
	assert_int_equal(n, 6 + VAULT_OVERHEAD);
	assert_int_equal(vault_open(&key, SLICE("for"), (struct slice){sealed, n}, out), 6);
	assert_memory_equal(out, "secret", 6);
	assert_int_equal(vault_close(&key, SLICE("for"), SLICE("secret"), again), n);
	assert_memory_not_equal(sealed, again, n);
}

static void
every_changed_bit_is_seen(void **state)
{
	uint8_t sealed[64], out[64];
	size_t n = vault_close(&key, SLICE("for"), SLICE("secret"), sealed);

	(void)state;
	for (size_t i = 0; i < n * 8; i++) {
		sealed[i / 8] ^= (uint8_t)(1 << i % 8);
		assert_int_equal(vault_open(&key, SLICE("for"), (struct slice){sealed, n}, out), -1);
		sealed[i / 8] ^= (uint8_t)(1 << i % 8);
	}
	for (size_t i = 0; i < n; i++)
		assert_int_equal(vault_open(&key, SLICE("for"), (struct slice){sealed, i}, out), -1);
}

static void
another_key_or_sink_opens_nothing(void **state)
{
	struct vault_key other = key;
	uint8_t sealed[64], out[64];
	size_t n = vault_close(&key, SLICE("for"), SLICE("secret"), sealed);
	char a[64], b[64];

	(void)state;
	other.at[31] = 1;
	assert_int_equal(vault_open(&other, SLICE("for"), (struct slice){sealed, n}, out), -1);
	assert_int_equal(vault_open(&key, SLICE("foe"), (struct slice){sealed, n}, out), -1);
	/* Parts can't flow into one another. */
	assert_int_equal(vault_binding(a, sizeof a, "t", "ab", "c", "d"), 8);
	assert_int_equal(vault_binding(b, sizeof b, "t", "a", "bc", "d"), 8);
	assert_memory_not_equal(a, b, 8);
	assert_int_equal(vault_binding(a, 8, "t", "ab", "c", "d"), 0);
}

static int
load(const char *text, mode_t mode)
{
	char name[] = "/tmp/vault-XXXXXX", why[VAULT_WHY_SIZE] = "";
	struct vault_key got;
	int fd = mkstemp(name), rc;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
	rc = vault_key_load(&got, name, why);
	assert_true((rc == 0) == (why[0] == '\0'));
	if (rc == 0)
		assert_int_equal(got.at[0], 0x0f);
	unlink(name);
	return rc;
}

static void
keys_in_files(void **state)
{
#define HEX "0f23456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	char why[VAULT_WHY_SIZE];
	struct vault_key got;

	(void)state;
	assert_int_equal(load(HEX, 0600), 0);
	assert_int_equal(load(HEX "\n", 0640), 0);
	assert_int_equal(load(HEX "\n", 0644), -1);
	assert_int_equal(load(HEX "\n", 0602), -1);
	assert_int_equal(load(HEX "0", 0600), -1);
	assert_int_equal(load(HEX "\n\n", 0600), -1);
	assert_int_equal(load("0F" HEX, 0600), -1);
	assert_int_equal(load("", 0600), -1);
	assert_int_equal(load("0f23\n", 0600), -1);
	assert_int_equal(vault_key_load(&got, "/nonexistent", why), -1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_sealed_opens),
		cmocka_unit_test(every_changed_bit_is_seen),
		cmocka_unit_test(another_key_or_sink_opens_nothing),
		cmocka_unit_test(keys_in_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
