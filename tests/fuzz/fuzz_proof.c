/* Any bytes: what proof_decode takes has one spelling, and its check goes through any chain. The report to be proved is the chain's first. */
#include <stdlib.h>
#include <string.h>

#include "schema/proof.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first report of the chain, taken out of it. */
static struct slice
take_first(struct proof *proof)
{
	struct cbor_reader r;
	struct slice first;

	if (proof->chain_len == 0)
		return proof->checkpoint;
	cbor_reader_init(&r, proof->chain);
	first = cbor_read_bytes(&r, LIMIT_MESSAGE);
	proof->chain = (struct slice){r.at, (size_t)(r.end - r.at)};
	proof->chain_len--;
	return first;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct checkpoint checkpoint;
	struct cose_sign1 cose;
	struct proof proof;
	struct cbor_writer w;
	struct slice report;
	enum reason why;
	uint8_t *out;

	if (proof_decode((struct slice){data, size}, &proof) != REASON_OK)
		return 0;
	out = malloc(size);
	if (out == NULL)
		abort();
	cbor_writer_init(&w, out, size);
	proof_encode(&proof, &w);
	if (w.overflow || w.len != size || memcmp(out, data, size) != 0)
		abort();
	free(out);
	if (proof_checkpoint(&proof, &cose, &checkpoint, &why) != PROOF_HOLDS)
		checkpoint = (struct checkpoint){.devices = proof.index + 1};
	report = take_first(&proof);
	(void)!proof_check(&proof, &checkpoint, report, &why);
	return 0;
}
