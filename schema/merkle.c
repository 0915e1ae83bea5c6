#include "schema/merkle.h"

#include <string.h>

/* RFC 9162 2.1.1: so that no node can pass for a leaf. */
static const uint8_t leaf_mark = 0x00, node_mark = 0x01;

void
merkle_leaf(struct slice data, merkle_hash out)
{
	const struct slice parts[2] = {{&leaf_mark, 1}, data};

	sha256_parts(parts, 2, out);
}

/* `out` may be one of them. */
static void
join(const merkle_hash left, const merkle_hash right, merkle_hash out)
{
	const struct slice parts[3] = {{&node_mark, 1}, {left, DIGEST_SIZE}, {right, DIGEST_SIZE}};

	sha256_parts(parts, 3, out);
}

static size_t
full_subtrees(uint64_t leaves)
{
	return (size_t)__builtin_popcountll(leaves);
}

void
merkle_add(struct merkle *tree, const merkle_hash leaf)
{
	size_t n = full_subtrees(tree->leaves);

	memcpy(tree->at[n++], leaf, DIGEST_SIZE);
	/* Each bit that is carried joins two subtrees of the same height. */
	for (uint64_t carry = tree->leaves; carry & 1; carry >>= 1, n--)
		join(tree->at[n - 2], tree->at[n - 1], tree->at[n - 2]);
	tree->leaves++;
}

void
merkle_root(const struct merkle *tree, merkle_hash root)
{
	size_t n = full_subtrees(tree->leaves);

	if (n == 0) {
		sha256((struct slice){NULL, 0}, root);
		return;
	}
	memcpy(root, tree->at[--n], DIGEST_SIZE);
	while (n > 0)
		join(tree->at[--n], root, root);
}

static void
root_of(const merkle_hash *leaves, uint64_t n, merkle_hash root)
{
	struct merkle tree = {.leaves = 0};

	for (uint64_t i = 0; i < n; i++)
		merkle_add(&tree, leaves[i]);
	merkle_root(&tree, root);
}

/* The largest power of two below n, which is above 1. */
static uint64_t
split(uint64_t n)
{
	return UINT64_C(1) << (63 - __builtin_clzll(n - 1));
}

size_t
merkle_path(const merkle_hash *leaves, uint64_t n, uint64_t i, merkle_hash path[MERKLE_HEIGHT])
{
	uint64_t left;
	size_t len;

	if (n <= 1)
		return 0;
	left = split(n);
	if (i < left) {
		len = merkle_path(leaves, left, i, path);
		root_of(leaves + left, n - left, path[len]);
	} else {
		len = merkle_path(leaves + left, n - left, i - left, path);
		root_of(leaves, left, path[len]);
	}
	return len + 1;
}

bool
merkle_check(const merkle_hash leaf, uint64_t n, uint64_t i, const merkle_hash *path, size_t len,
	     const merkle_hash root)
{
	uint64_t at = i, last = n - 1;
	merkle_hash hash;

	if (i >= n)
		return false;
	memcpy(hash, leaf, DIGEST_SIZE);
	for (size_t p = 0; p < len; p++) {
		if (last == 0)
			return false;
		if ((at & 1) || at == last) {
			join(path[p], hash, hash);
			while (!(at & 1) && at != 0)
				at >>= 1, last >>= 1;
		} else {
			join(hash, path[p], hash);
		}
		at >>= 1;
		last >>= 1;
	}
	return last == 0 && memcmp(hash, root, DIGEST_SIZE) == 0;
}
