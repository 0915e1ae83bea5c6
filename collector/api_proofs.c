/* Inclusion proofs: why a signed checkpoint covers a report, for whoever verifies it without us. */
#include <assert.h>
#include <endian.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collector/query.h"
#include "collector/routes.h"
#include "schema/log.h"
#include "schema/proof.h"

#define CHAIN_BYTES (8u << 20) /* fits into what a proof may have */
#define CHAIN_ROWS 50000

enum {
	MESSAGE,
	COVERED,
	ENDED,
	DUE_S,
	CHECKPOINT,
	LEAF_UEID,
	LEAF_EPOCH,
	LEAF_SEQ,
	LEAF_HEAD,
	LEAF_SECTIONS,
	PLACE,
	LEAVES,
	NODES
};

static bool
is_true(const PGresult *rows, int column)
{
	struct slice bytes = query_bytes(rows, 0, column);

	return bytes.len == 1 && bytes.at[0] != 0;
}

static void
answer_uncovered(struct response *response, const PGresult *rows)
{
	int64_t due_s = query_int8(rows, 0, DUE_S);
	time_t due = time(NULL) + (time_t)due_s;
	char text[32];
	struct tm tm;

	if (is_true(rows, ENDED)) {
		response_problem(response, PROBLEM_NOT_COVERED,
				 "No checkpoint that is kept covers it, and none will: its epoch was over before.");
		return;
	}
	strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&due, &tm));
	response_problem(response, PROBLEM_NOT_COVERED, "The next checkpoint is due at %s.", text);
	response_member(response, "due_in_s", due_s);
}

static void
copy_digest(uint8_t to[DIGEST_SIZE], struct slice from)
{
	assert(from.len == DIGEST_SIZE);
	memcpy(to, from.at, DIGEST_SIZE);
}

/* From the leaf to its node, and from there to the root: nodes are of whole subtrees, so both ways together are one. */
static void
find_path(struct proof *proof, struct slice leaves, struct slice nodes)
{
	uint64_t place = proof->index;

	proof->path_len = merkle_path((const merkle_hash *)leaves.at, leaves.len / DIGEST_SIZE, place % CHECKPOINT_FAN,
				      proof->path);
	proof->path_len += merkle_path((const merkle_hash *)nodes.at, nodes.len / DIGEST_SIZE, place / CHECKPOINT_FAN,
				       proof->path + proof->path_len);
}

static void
read_parts(const PGresult *rows, struct proof *proof)
{
	struct checkpoint_leaf *leaf = &proof->leaf;
	struct slice ueid = query_bytes(rows, 0, LEAF_UEID), sections = query_bytes(rows, 0, LEAF_SECTIONS);

	proof->checkpoint = query_bytes(rows, 0, CHECKPOINT);
	assert(ueid.len == UEID_SIZE);
	memcpy(leaf->ueid.bytes, ueid.at, UEID_SIZE);
	leaf->epoch = (uint64_t)query_int8(rows, 0, LEAF_EPOCH);
	leaf->seq = (uint64_t)query_int8(rows, 0, LEAF_SEQ);
	copy_digest(leaf->head, query_bytes(rows, 0, LEAF_HEAD));
	leaf->has_sections = sections.at != NULL;
	if (leaf->has_sections)
		copy_digest(leaf->sections, sections);
	proof->index = (uint64_t)query_int8(rows, 0, PLACE);
	find_path(proof, query_bytes(rows, 0, LEAVES), query_bytes(rows, 0, NODES));
}

/* Owned. NULL when memory ran out. */
static uint8_t *
encode_chain(const PGresult *rows, struct proof *proof)
{
	size_t n = (size_t)PQntuples(rows), size = 1;
	struct cbor_writer w;
	uint8_t *bytes;

	for (size_t i = 0; i < n; i++)
		size += query_bytes(rows, (int)i, 0).len + 9;
	bytes = malloc(size);
	if (bytes == NULL)
		return NULL;
	cbor_writer_init(&w, bytes, size);
	for (size_t i = 0; i < n; i++)
		cbor_write_bytes(&w, query_bytes(rows, (int)i, 0));
	proof->chain = (struct slice){bytes, w.len};
	proof->chain_len = n;
	return bytes;
}

/* Nothing leaves that its reader would refuse. */
static enum proof_fault
check(const struct proof *proof, struct slice message)
{
	struct checkpoint checkpoint;
	struct cose_sign1 cose;
	enum reason why;
	enum proof_fault fault = proof_checkpoint(proof, &cose, &checkpoint, &why);

	return fault == PROOF_HOLDS ? proof_check(proof, &checkpoint, message, &why) : fault;
}

static void
answer_proof(struct response *response, const struct proof *proof, const char *sha256)
{
	struct cbor_writer w;
	uint8_t *bytes;

	cbor_writer_init(&w, NULL, 0);
	proof_encode(proof, &w);
	bytes = malloc(w.len);
	if (bytes == NULL) {
		response->failed = true;
		return;
	}
	cbor_writer_init(&w, bytes, w.len);
	proof_encode(proof, &w);
	response_json(response, (struct slice){bytes, w.len});
	response->type = "application/cbor"; /* RFC 8949 9.5 */
	response_header(response, "Content-Disposition", "attachment; filename=\"%s.proof\"", sha256);
	free(bytes);
}

static void
answer_covered(struct response *response, PGresult *const results[2], const char *sha256)
{
	struct proof proof = {.index = 0};
	uint8_t *chain;
	enum proof_fault fault;

	read_parts(results[0], &proof);
	chain = encode_chain(results[1], &proof);
	fault = chain == NULL ? PROOF_FAULT_MALFORMED : check(&proof, query_bytes(results[0], 0, MESSAGE));
	if (chain == NULL)
		response->failed = true;
	else if (proof.chain.len > CHAIN_BYTES || proof.chain_len > CHAIN_ROWS)
		response_problem(response, PROBLEM_CHAIN_TOO_LONG, "%s", "");
	else if (fault == PROOF_HOLDS)
		answer_proof(response, &proof, sha256);
	else if (fault == PROOF_FAULT_CHAIN)
		response_problem(response, PROBLEM_CHAIN_BROKEN, "%s", "");
	else {
		log_error("proof: report=%s fault=%s", sha256, proof_fault_name(fault));
		response->failed = true;
	}
	free(chain);
}

void
api_proof(struct request *request, struct response *response)
{
	struct call calls[2] = {{.query = QUERY_PROOF_PARTS}, {.query = QUERY_PROOF_CHAIN}};
	const char *text = request->variables[0];
	const uint64_t bytes = htobe64(CHAIN_BYTES), rows = htobe64(CHAIN_ROWS + 1);
	uint8_t digest[DIGEST_SIZE];
	PGresult *results[2];

	if (strlen(text) != sizeof digest * 2 ||
	    !hex_parse((struct slice){(const uint8_t *)text, strlen(text)}, digest, sizeof digest)) {
		response_problem(response, PROBLEM_NOT_FOUND, "There is no such report.");
		return;
	}
	for (size_t i = 0; i < 2; i++)
		calls[i].params[calls[i].n++] = param_bytes(digest, sizeof digest);
	calls[1].params[calls[1].n++] = param_bytes(&bytes, sizeof bytes);
	calls[1].params[calls[1].n++] = param_bytes(&rows, sizeof rows);
	if (query_run(request, response, calls, 2, results) < 0)
		return;
	if (PQntuples(results[0]) == 0)
		response_problem(response, PROBLEM_NOT_FOUND, "There is no such report.");
	else if (!is_true(results[0], COVERED))
		answer_uncovered(response, results[0]);
	else
		answer_covered(response, results, text);
	PQclear(results[0]);
	PQclear(results[1]);
}
