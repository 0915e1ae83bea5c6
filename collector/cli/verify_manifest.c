#include "collector/cli/verify_manifest.h"

#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "collector/cli/audit.h"
#include "collector/cli/cli.h"
#include "collector/tally.h"
#include "schema/claims.h"
#include "schema/manifest.h"

#define BLOCK (64 * 1024)

/* The file may be larger than memory. */
static void
measure(const char *file, uint8_t digest[DIGEST_SIZE], uint64_t *size)
{
	int fd = strcmp(file, "-") == 0 ? STDIN_FILENO : open(file, O_RDONLY | O_CLOEXEC);
	struct tally *tally = tally_new();
	uint8_t *block = malloc(BLOCK);
	ssize_t n;

	if (fd < 0)
		cli_die(CLI_WRONG, "%s: %m", file);
	if (tally == NULL || block == NULL)
		cli_die(CLI_WRONG, "out of memory");
	while ((n = read(fd, block, BLOCK)) > 0)
		tally_add(tally, (struct slice){block, (size_t)n});
	if (n < 0)
		cli_die(CLI_WRONG, "%s: %m", file);
	if (!tally_end(tally, digest, size))
		cli_die(CLI_WRONG, "out of memory");
	tally_free(tally);
	free(block);
	if (fd != STDIN_FILENO)
		close(fd);
}

/* NULL: the operator's collector said this. */
static const char *
check_signature(struct slice message, const char *operator_ca, struct manifest *m)
{
	struct anchors *anchors = NULL;
	struct cose_sign1 cose;
	enum reason reason;
	char error[256];

	if (operator_ca != NULL && (anchors = anchors_from_pem(operator_ca, error)) == NULL)
		cli_die(CLI_WRONG, "%s", error);
	reason = cose_decode(message, &cose);
	if (reason == REASON_OK)
		reason = manifest_decode(cose.payload, m);
	if (reason == REASON_OK && anchors != NULL)
		reason = operator_signed(anchors, &cose, m->iat);
	anchors_free(anchors);
	if (reason != REASON_OK)
		return reason_name(reason);
	return operator_ca == NULL ? "no authority of the manifest's signer was named with --operator-ca" : NULL;
}

static void
print(const struct manifest *m, const char *wrong, bool json)
{
	char digest[2 * DIGEST_SIZE + 1], at[24];
	time_t t = (time_t)m->iat;
	struct tm tm;

	hex_print(m->sha256, DIGEST_SIZE, digest);
	if (json) {
		json_t *all = json_pack("{s:b, s:s*}", "verified", wrong == NULL, "reason", wrong);
		char *text;

		if (wrong == NULL)
			json_object_update_new(
				all,
				json_pack("{s:s, s:s, s:I, s:I, s:s, s:I, s:o, s:o}", "tenant", m->tenant, "format",
					  m->format, "rows", (json_int_t)m->rows, "size", (json_int_t)m->size, "sha256",
					  digest, "position", (json_int_t)m->position, "since",
					  m->has_since ? json_integer((json_int_t)m->since) : json_null(), "made_at",
					  claim_json_time(m->iat)));
		text = json_dumps(all, JSON_INDENT(2));
		puts(text == NULL ? "" : text);
		free(text);
		json_decref(all);
		return;
	}
	if (wrong != NULL) {
		printf("not verified: %s\n", wrong);
		return;
	}
	strftime(at, sizeof at, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &tm));
	printf("verified\n%" PRIu64 " rows as %s of tenant %s, as of position %" PRIu64, m->rows, m->format, m->tenant,
	       m->position);
	if (m->has_since)
		printf(", changed since %" PRIu64, m->since);
	printf("\nmade at %s\nsha256 %s\n", at, digest);
}

int
verify_manifest(const char *file, const char *manifest, const char *operator_ca, bool json)
{
	uint8_t digest[DIGEST_SIZE], *bytes;
	struct manifest m;
	const char *wrong;
	uint64_t size;
	size_t len;

	bytes = cli_read(manifest, LIMIT_MANIFEST, &len);
	wrong = check_signature((struct slice){bytes, len}, operator_ca, &m);
	if (wrong == NULL) {
		measure(file, digest, &size);
		if (size != m.size)
			wrong = "the export has another size";
		else if (memcmp(digest, m.sha256, DIGEST_SIZE) != 0)
			wrong = "the export has another digest";
	}
	print(&m, wrong, json);
	free(bytes);
	return wrong == NULL ? CLI_YES : CLI_NO;
}
