#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "schema/merkle.h"
#include "tests/unit/bytes.h"

/* The leaves and roots by which implementations of certificate transparency are compared. */
static const char *const leaves_hex[] = {
	"", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"};
static const char *const roots_hex[] = {
	"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
	"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
	"aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
	"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
	"4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
	"76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
	"ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
	"5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
};
#define LEAVES (sizeof leaves_hex / sizeof leaves_hex[0])

static void
roots_are_those_of_others(void **unused)
{
	struct merkle tree = {.leaves = 0};
	uint8_t bytes[32], expected[32];
	merkle_hash leaf, root;

	(void)unused;
	for (size_t n = 0; n <= LEAVES; n++) {
		merkle_root(&tree, root);
		assert_memory_equal(root, unhex(roots_hex[n], expected).at, DIGEST_SIZE);
		assert_int_equal(tree.leaves, n);
		if (n == LEAVES)
			break;
		merkle_leaf(unhex(leaves_hex[n], bytes), leaf);
		merkle_add(&tree, leaf);
	}
}

/* Of trees of every size up to 70: each leaf's way leads to the root, and no other leaf, place, size or hash does. */
static void
a_path_proves_its_leaf_alone(void **unused)
{
	static merkle_hash leaves[70];
	merkle_hash path[MERKLE_HEIGHT], root;

	(void)unused;
	for (uint8_t i = 0; i < 70; i++)
		merkle_leaf((struct slice){&i, 1}, leaves[i]);
	for (uint64_t n = 1; n <= 70; n++) {
		struct merkle tree = {.leaves = 0};

		for (uint64_t i = 0; i < n; i++)
			merkle_add(&tree, leaves[i]);
		merkle_root(&tree, root);
		for (uint64_t i = 0; i < n; i++) {
			size_t len = merkle_path(leaves, n, i, path);

			assert_true(merkle_check(leaves[i], n, i, path, len, root));
			assert_false(merkle_check(leaves[(i + 1) % 70], n, i, path, len, root));
			assert_false(merkle_check(leaves[i], n, n, path, len, root));
			assert_false(n > 1 && merkle_check(leaves[i], n, (i + 1) % n, path, len, root));
			assert_false(len > 0 && merkle_check(leaves[i], n, i, path, len - 1, root));
			if (len == 0)
				continue;
			path[len / 2][7] ^= 1;
			assert_false(merkle_check(leaves[i], n, i, path, len, root));
		}
	}
}

static void
no_node_passes_for_a_leaf(void **unused)
{
	struct merkle tree = {.leaves = 0};
	uint8_t both[2 * DIGEST_SIZE];
	merkle_hash a, b, root, leaf;

	(void)unused;
	merkle_leaf((struct slice){(const uint8_t *)"a", 1}, a);
	merkle_leaf((struct slice){(const uint8_t *)"b", 1}, b);
	merkle_add(&tree, a);
	merkle_add(&tree, b);
	merkle_root(&tree, root);
	memcpy(both, a, DIGEST_SIZE);
	memcpy(both + DIGEST_SIZE, b, DIGEST_SIZE);
	merkle_leaf((struct slice){both, sizeof both}, leaf);
	assert_memory_not_equal(leaf, root, DIGEST_SIZE);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(roots_are_those_of_others),
		cmocka_unit_test(a_path_proves_its_leaf_alone),
		cmocka_unit_test(no_node_passes_for_a_leaf),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
