#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "schema/proof.h"
#include "tests/unit/bytes.h"
#include "tests/unit/keys.h"

#define REPORTS 4
#define DEVICES 5
#define MESSAGE 512

/* A device's reports 5 to 8, the others' leaves, and a checkpoint over them. */
struct evidence {
	uint8_t messages[REPORTS][MESSAGE];
	size_t lens[REPORTS];
	merkle_hash leaves[DEVICES];
	uint8_t checkpoint[MESSAGE], chain[REPORTS * MESSAGE];
	struct proof proof; /* of the first */
};

static struct slice
message(const struct evidence *e, size_t i)
{
	return (struct slice){e->messages[i], e->lens[i]};
}

static void
sign_report(struct evidence *e, size_t i, uint64_t seq, uint8_t device)
{
	struct report report = {.iat = 1790000000, .seq = seq, .epoch = 7, .has_prev = true, .interval = 300};
	uint8_t payload[MESSAGE];
	struct cbor_writer w;

	report.ueid.bytes[0] = 1;
	report.ueid.bytes[1] = device;
	if (i > 0)
		sha256(message(e, i - 1), report.prev);
	cbor_writer_init(&w, payload, sizeof payload);
	report_encode(&report, &w);
	e->lens[i] = cose_sign(keys[0], NULL, 0, (struct slice){payload, w.len}, e->messages[i], MESSAGE);
	assert_int_not_equal(e->lens[i], 0);
}

static void
encode_chain(struct evidence *e, size_t from, size_t to)
{
	struct cbor_writer w;

	cbor_writer_init(&w, e->chain, sizeof e->chain);
	for (size_t i = from; i < to; i++)
		cbor_write_bytes(&w, message(e, i));
	assert_false(w.overflow);
	e->proof.chain = (struct slice){e->chain, w.len};
	e->proof.chain_len = to - from;
}

static void
sign_checkpoint(struct evidence *e)
{
	struct checkpoint checkpoint = {.iat = 1790000300, .number = 1, .devices = DEVICES};
	struct merkle tree = {.leaves = 0};
	uint8_t payload[MESSAGE];
	struct cbor_writer w;

	for (size_t i = 0; i < DEVICES; i++)
		merkle_add(&tree, e->leaves[i]);
	merkle_root(&tree, checkpoint.root);
	cbor_writer_init(&w, payload, sizeof payload);
	checkpoint_encode(&checkpoint, &w);
	e->proof.checkpoint.at = e->checkpoint;
	e->proof.checkpoint.len = cose_sign(keys[0], NULL, 0, (struct slice){payload, w.len}, e->checkpoint, MESSAGE);
	assert_int_not_equal(e->proof.checkpoint.len, 0);
}

static void
make_evidence(struct evidence *e, uint64_t index)
{
	struct checkpoint_leaf *leaf = &e->proof.leaf;

	memset(e, 0, sizeof *e);
	for (size_t i = 0; i < REPORTS; i++)
		sign_report(e, i, 5 + i, 1);
	for (uint8_t i = 0; i < DEVICES; i++)
		merkle_leaf((struct slice){&i, 1}, e->leaves[i]);
	leaf->ueid.bytes[0] = leaf->ueid.bytes[1] = 1;
	leaf->epoch = 7;
	leaf->seq = 8;
	sha256(message(e, REPORTS - 1), leaf->head);
	e->proof.index = index;
	checkpoint_leaf_hash(leaf, e->leaves[index]);
	e->proof.path_len = merkle_path(e->leaves, DEVICES, index, e->proof.path);
	encode_chain(e, 1, REPORTS);
	sign_checkpoint(e);
}

/* As an auditor does, whose trusted key is keys[0]. */
static enum proof_fault
judge(struct slice bytes, struct slice report)
{
	struct checkpoint checkpoint;
	struct cose_sign1 cose;
	struct proof proof;
	enum proof_fault fault;
	enum reason why;

	if (proof_decode(bytes, &proof) != REASON_OK)
		return PROOF_FAULT_MALFORMED;
	fault = proof_checkpoint(&proof, &cose, &checkpoint, &why);
	if (fault != PROOF_HOLDS)
		return fault;
	if (cose_verify(&cose, keys[0], NULL) != REASON_OK)
		return PROOF_FAULT_SIGNER;
	return proof_check(&proof, &checkpoint, report, &why);
}

static struct slice
encode(const struct proof *proof, uint8_t out[16 * MESSAGE])
{
	struct cbor_writer w;

	cbor_writer_init(&w, out, 16 * MESSAGE);
	proof_encode(proof, &w);
	assert_false(w.overflow);
	return (struct slice){out, w.len};
}

static enum proof_fault
judge_proof(const struct evidence *e, size_t report)
{
	uint8_t out[16 * MESSAGE];

	return judge(encode(&e->proof, out), message(e, report));
}

static void
it_holds_for_each_report_and_place(void **unused)
{
	struct evidence e;

	(void)unused;
	for (uint64_t index = 0; index < DEVICES; index++) {
		make_evidence(&e, index);
		for (size_t i = 0; i < REPORTS; i++) {
			encode_chain(&e, i + 1, REPORTS);
			assert_int_equal(judge_proof(&e, i), PROOF_HOLDS);
		}
	}
}

static void
it_ends_at_the_last_with_sections_too(void **unused)
{
	struct evidence e;

	(void)unused;
	make_evidence(&e, 2);
	e.proof.leaf.has_sections = true;
	sha256(message(&e, 1), e.proof.leaf.sections);
	checkpoint_leaf_hash(&e.proof.leaf, e.leaves[2]);
	sign_checkpoint(&e);
	encode_chain(&e, 1, 2);
	assert_int_equal(judge_proof(&e, 0), PROOF_HOLDS);
	encode_chain(&e, 1, REPORTS);
	assert_int_equal(judge_proof(&e, 0), PROOF_HOLDS);
	encode_chain(&e, 1, 3);
	assert_int_equal(judge_proof(&e, 0), PROOF_FAULT_CHAIN);
}

static void
each_fault_has_its_name(void **unused)
{
	struct evidence e;
	uint8_t out[16 * MESSAGE];
	struct slice bytes;

	(void)unused;
	make_evidence(&e, 2);
	assert_int_equal(judge_proof(&e, 1), PROOF_FAULT_CHAIN); /* another report */
	encode_chain(&e, 1, 1);
	assert_int_equal(judge_proof(&e, 0), PROOF_FAULT_CHAIN); /* nothing leads to the leaf */
	make_evidence(&e, 2);
	e.proof.index = 3;
	assert_int_equal(judge_proof(&e, 0), PROOF_FAULT_PATH);
	e.proof.index = 2 + DEVICES;
	assert_int_equal(judge_proof(&e, 0), PROOF_FAULT_PATH);
	make_evidence(&e, 2);
	e.proof.path_len--;
	assert_int_equal(judge_proof(&e, 0), PROOF_FAULT_PATH);
	e.proof.path_len += 2;
	assert_int_equal(judge_proof(&e, 0), PROOF_FAULT_PATH);
	make_evidence(&e, 2);
	e.proof.leaf.seq = 7;
	assert_int_equal(judge_proof(&e, 0), PROOF_FAULT_LEAF); /* the chain goes further than the leaf */
	e.proof.leaf.seq = 9;
	assert_int_equal(judge_proof(&e, 0), PROOF_FAULT_PATH);
	make_evidence(&e, 2);
	e.proof.leaf.epoch = 8;
	assert_int_equal(judge_proof(&e, 0), PROOF_FAULT_LEAF);
	make_evidence(&e, 2);
	sign_report(&e, 0, 5, 2);
	assert_int_equal(judge_proof(&e, 0), PROOF_FAULT_LEAF); /* another device's */
	make_evidence(&e, 2);
	sign_report(&e, 1, 6, 2);
	encode_chain(&e, 1, REPORTS);
	assert_int_equal(judge_proof(&e, 0), PROOF_FAULT_LEAF); /* between them */
	make_evidence(&e, 2);
	sign_report(&e, 1, 5, 1);
	encode_chain(&e, 1, REPORTS);
	assert_int_equal(judge_proof(&e, 0), PROOF_FAULT_CHAIN); /* a number twice */
	make_evidence(&e, 2);
	e.proof.checkpoint = message(&e, 0);
	assert_int_equal(judge_proof(&e, 0), PROOF_FAULT_CHECKPOINT);
	make_evidence(&e, 2);
	e.lens[0]--;
	assert_int_equal(judge_proof(&e, 0), PROOF_FAULT_REPORT);
	make_evidence(&e, 2);
	bytes = encode(&e.proof, out);
	for (size_t len = 0; len < bytes.len; len++)
		assert_int_equal(judge((struct slice){out, len}, message(&e, 0)), PROOF_FAULT_MALFORMED);
	out[bytes.len] = 0;
	assert_int_equal(judge((struct slice){out, bytes.len + 1}, message(&e, 0)), PROOF_FAULT_MALFORMED);
}

static void
no_bit_may_change(void **unused)
{
	struct evidence e;
	uint8_t out[16 * MESSAGE];
	struct slice bytes;

	(void)unused;
	make_evidence(&e, 2);
	bytes = encode(&e.proof, out);
	assert_int_equal(judge(bytes, message(&e, 0)), PROOF_HOLDS);
	for (size_t i = 0; i < bytes.len * 8; i++) {
		out[i / 8] ^= (uint8_t)(1 << i % 8);
		assert_int_not_equal(judge(bytes, message(&e, 0)), PROOF_HOLDS);
		out[i / 8] ^= (uint8_t)(1 << i % 8);
	}
	for (size_t i = 0; i < e.lens[0] * 8; i++) {
		e.messages[0][i / 8] ^= (uint8_t)(1 << i % 8);
		assert_int_not_equal(judge(bytes, message(&e, 0)), PROOF_HOLDS);
		e.messages[0][i / 8] ^= (uint8_t)(1 << i % 8);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_holds_for_each_report_and_place),
		cmocka_unit_test(it_ends_at_the_last_with_sections_too),
		cmocka_unit_test(each_fault_has_its_name),
		cmocka_unit_test(no_bit_may_change),
	};

	return cmocka_run_group_tests(tests, make_keys, free_keys);
}
