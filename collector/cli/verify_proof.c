#include "collector/cli/verify_proof.h"

#include <stdlib.h>

#include "collector/cli/audit.h"
#include "collector/cli/cli.h"

static enum proof_fault
check(struct slice bytes, const struct anchors *anchors, struct slice report, struct checkpoint *checkpoint,
      enum reason *why)
{
	struct cose_sign1 cose;
	struct proof proof;
	enum proof_fault fault;

	*why = proof_decode(bytes, &proof);
	if (*why != REASON_OK)
		return PROOF_FAULT_MALFORMED;
	fault = proof_checkpoint(&proof, &cose, checkpoint, why);
	if (fault != PROOF_HOLDS)
		return fault;
	*why = operator_signed(anchors, &cose, checkpoint->iat);
	return *why == REASON_OK ? proof_check(&proof, checkpoint, report, why) : PROOF_FAULT_SIGNER;
}

void
verify_proof(const char *file, const char *operator_ca, struct slice report, struct coverage *out)
{
	struct anchors *anchors = NULL;
	enum proof_fault fault;
	enum reason why;
	char error[256];
	uint8_t *bytes;
	size_t len;

	*out = (struct coverage){.wrong = "no authority of the checkpoint's signer was named with --operator-ca"};
	if (operator_ca == NULL)
		return;
	if ((anchors = anchors_from_pem(operator_ca, error)) == NULL)
		cli_die(CLI_WRONG, "%s", error);
	bytes = cli_read(file, LIMIT_PROOF, &len);
	fault = check((struct slice){bytes, len}, anchors, report, &out->checkpoint, &why);
	out->wrong = fault == PROOF_HOLDS ? NULL : proof_fault_name(fault);
	out->detail = why == REASON_OK ? NULL : reason_name(why);
	free(bytes);
	anchors_free(anchors);
}
