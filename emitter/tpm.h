/*
 * The few commands that the endorsement key of a TPM takes, as the TPM 2.0 Library's part 3 has them: no library, no session, nothing changed.
 */
#ifndef FLEETSTATE_TPM_H
#define FLEETSTATE_TPM_H

#include <stdbool.h>

#include "schema/cose.h"
#include "schema/slice.h"

/* SHA-256 of the certificate of the endorsement key or, where none is stored, of the key's public area (TPMT_PUBLIC): its Name without the
   algorithm. `path`: the device, or the Unix socket of a software TPM. -1 with errno: ENOENT there is no TPM, ENODATA it has neither, ETIMEDOUT. */
int tpm_endorsement(const char *path, uint8_t digest[DIGEST_SIZE]) WARN_UNUSED;

/* Pure: what the answers hold. */
#define TPM_RESPONSE 4096 /* the longest that a TPM gives */
/* false: malformed. `code` 0: the command was done, and `parameters` is what follows the header. */
bool tpm_response_parse(struct slice response, uint32_t *code, struct slice *parameters) WARN_UNUSED;
bool tpm_nv_public_parse(struct slice parameters, uint16_t *size) WARN_UNUSED;	/* of TPM2_NV_ReadPublic */
bool tpm_nv_data_parse(struct slice parameters, struct slice *data) WARN_UNUSED;	/* of TPM2_NV_Read */
bool tpm_public_parse(struct slice parameters, struct slice *area) WARN_UNUSED;	/* of TPM2_ReadPublic: the TPMT_PUBLIC */
/* What is stored may be longer than the certificate: just its DER. false: it does not begin with one. */
bool tpm_certificate_trim(struct slice stored, struct slice *der) WARN_UNUSED;
/* The kernel's "pubek" of a TPM 1.2: the modulus, 256 bytes. */
bool pubek_parse(struct slice text, uint8_t modulus[256]) WARN_UNUSED;

#endif
