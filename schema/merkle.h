/*
 * Merkle trees over SHA-256 as RFC 9162 2.1 has them: the root of leaves that come one by one, the way from a leaf to the root, and its check.
 */
#ifndef FLEETSTATE_MERKLE_H
#define FLEETSTATE_MERKLE_H

#include <stdbool.h>

#include "schema/key.h"

#define MERKLE_HEIGHT 64	/* no tree of ours is higher */

typedef uint8_t merkle_hash[DIGEST_SIZE];

struct merkle {
	merkle_hash at[MERKLE_HEIGHT];	/* roots of full subtrees, the largest first */
	uint64_t leaves;
};

void merkle_leaf(struct slice data, merkle_hash out);	/* RFC 9162 2.1.1: of what stands in a leaf */
/* A zeroed struct is a tree without leaves. */
void merkle_add(struct merkle *, const merkle_hash leaf);
void merkle_root(const struct merkle *, merkle_hash root);

/* The hashes beside the way from leaf `i` of `n` to the root, the lowest first; returns how many. */
size_t merkle_path(const merkle_hash *leaves, uint64_t n, uint64_t i, merkle_hash path[MERKLE_HEIGHT]);
/* Whether such a way leads to the root (RFC 9162 2.1.3.2). */
bool merkle_check(const merkle_hash leaf, uint64_t n, uint64_t i, const merkle_hash *path, size_t len, const merkle_hash root) WARN_UNUSED;

#endif
