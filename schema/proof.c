#include "schema/proof.h"

#include <string.h>

#include "schema/claims.h"

#define ITEMS 6
#define LEAF_ITEMS 5

static const char *const faults[] = {
	"ok",
#define PROOF_FAULT(symbol, name, help) name,
#include "schema/proof_faults.def"
#undef PROOF_FAULT
};

const char *
proof_fault_name(enum proof_fault fault)
{
	return faults[fault];
}

static void
read_leaf(struct cbor_reader *r, struct checkpoint_leaf *leaf)
{
	if (cbor_read_array(r, SIZE_MAX) != LEAF_ITEMS)
		cbor_fail(r, REASON_CLAIM_INVALID);
	claim_read_ueid(r, &leaf->ueid);
	leaf->epoch = claim_read_epoch(r);
	leaf->seq = cbor_read_uint_max(r, 1, LIMIT_SEQ);
	cbor_read_bytes_exact(r, leaf->head, DIGEST_SIZE);
	leaf->has_sections = claim_read_digest(r, leaf->sections);
}

static void
write_leaf(struct cbor_writer *w, const struct checkpoint_leaf *leaf)
{
	cbor_write_array(w, LEAF_ITEMS);
	cbor_write_bytes(w, (struct slice){leaf->ueid.bytes, UEID_SIZE});
	claim_write_epoch(w, leaf->epoch);
	cbor_write_uint(w, leaf->seq);
	cbor_write_bytes(w, (struct slice){leaf->head, DIGEST_SIZE});
	claim_write_digest(w, leaf->has_sections, leaf->sections);
}

static void
read_path(struct cbor_reader *r, struct proof *proof)
{
	proof->path_len = cbor_read_array(r, MERKLE_HEIGHT);
	for (size_t i = 0; i < proof->path_len; i++)
		cbor_read_bytes_exact(r, proof->path[i], DIGEST_SIZE);
}

static void
read_chain(struct cbor_reader *r, struct proof *proof)
{
	const uint8_t *begin;

	proof->chain_len = cbor_read_array(r, SIZE_MAX);
	begin = r->at;
	for (size_t i = 0; i < proof->chain_len && r->error == REASON_OK; i++)
		(void)cbor_read_bytes(r, LIMIT_MESSAGE);
	proof->chain = (struct slice){begin, (size_t)(r->at - begin)};
}

enum reason
proof_decode(struct slice bytes, struct proof *out)
{
	struct cbor_reader r;

	memset(out, 0, sizeof *out);
	if (bytes.len > LIMIT_PROOF)
		return REASON_TOO_LARGE;
	cbor_reader_init(&r, bytes);
	if (cbor_read_array(&r, SIZE_MAX) != ITEMS)
		cbor_fail(&r, REASON_CLAIM_INVALID);
	claim_read_profile(&r, NULL);
	out->checkpoint = cbor_read_bytes(&r, LIMIT_CHECKPOINT);
	read_leaf(&r, &out->leaf);
	out->index = cbor_read_uint_max(&r, 0, LIMIT_SEQ);
	read_path(&r, out);
	read_chain(&r, out);
	return cbor_reader_end(&r);
}

void
proof_encode(const struct proof *proof, struct cbor_writer *w)
{
	cbor_write_array(w, ITEMS);
	claim_write_profile(w, NULL);
	cbor_write_bytes(w, proof->checkpoint);
	write_leaf(w, &proof->leaf);
	cbor_write_uint(w, proof->index);
	cbor_write_array(w, proof->path_len);
	for (size_t i = 0; i < proof->path_len; i++)
		cbor_write_bytes(w, (struct slice){proof->path[i], DIGEST_SIZE});
	cbor_write_array(w, proof->chain_len);
	cbor_write_encoded(w, proof->chain);
}

enum proof_fault
proof_checkpoint(const struct proof *proof, struct cose_sign1 *cose, struct checkpoint *checkpoint, enum reason *why)
{
	*why = cose_decode(proof->checkpoint, cose);
	if (*why == REASON_OK)
		*why = checkpoint_decode(cose->payload, checkpoint);
	return *why == REASON_OK ? PROOF_HOLDS : PROOF_FAULT_CHECKPOINT;
}

/* The report that the walk has come to. */
struct step {
	uint8_t digest[DIGEST_SIZE];
	uint64_t seq;
};

static bool
names(bool has, const uint8_t *digest, const uint8_t *before)
{
	return has && memcmp(digest, before, DIGEST_SIZE) == 0;
}

/* `before` NULL: the report to be proved. */
static enum proof_fault
take_step(const struct checkpoint_leaf *leaf, struct slice message, const struct step *before, struct step *out,
	  enum reason *why)
{
	struct cose_sign1 cose;
	struct report report;

	*why = cose_decode(message, &cose);
	if (*why == REASON_OK)
		*why = report_decode(cose.payload, &report);
	if (*why != REASON_OK)
		return PROOF_FAULT_REPORT;
	if (memcmp(&report.ueid, &leaf->ueid, sizeof report.ueid) != 0 || report.epoch != leaf->epoch ||
	    report.seq > leaf->seq)
		return PROOF_FAULT_LEAF;
	if (before != NULL &&
	    (report.seq <= before->seq || (!names(report.has_prev, report.prev, before->digest) &&
					   !names(report.has_sections_prev, report.sections_prev, before->digest))))
		return PROOF_FAULT_CHAIN;
	out->seq = report.seq;
	sha256(message, out->digest);
	return PROOF_HOLDS;
}

static enum proof_fault
walk(const struct proof *proof, struct slice report, struct step *last, enum reason *why)
{
	enum proof_fault fault = take_step(&proof->leaf, report, NULL, last, why);
	struct cbor_reader r;

	cbor_reader_init(&r, proof->chain);
	for (size_t i = 0; i < proof->chain_len && fault == PROOF_HOLDS; i++) {
		struct step before = *last;

		fault = take_step(&proof->leaf, cbor_read_bytes(&r, LIMIT_MESSAGE), &before, last, why);
	}
	return fault;
}

enum proof_fault
proof_check(const struct proof *proof, const struct checkpoint *checkpoint, struct slice report, enum reason *why)
{
	const struct checkpoint_leaf *leaf = &proof->leaf;
	struct step last = {{0}, 0};
	enum proof_fault fault = walk(proof, report, &last, why);
	merkle_hash hash;

	if (fault != PROOF_HOLDS)
		return fault;
	if (memcmp(last.digest, leaf->head, DIGEST_SIZE) != 0 &&
	    !names(leaf->has_sections, leaf->sections, last.digest))
		return PROOF_FAULT_CHAIN;
	checkpoint_leaf_hash(leaf, hash);
	return merkle_check(hash, checkpoint->devices, proof->index, proof->path, proof->path_len, checkpoint->root)
		       ? PROOF_HOLDS
		       : PROOF_FAULT_PATH;
}
