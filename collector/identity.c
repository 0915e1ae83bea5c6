#include "collector/identity.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/client_certificate.h"
#include "collector/clock.h"
#include "collector/counters.h"
#include "collector/jwks.h"
#include "collector/routes.h"

#define HANDLES 1024 /* kept; a power of two */
#define HANDLE_MS 60000 /* then it is asked for anew: somebody may have mapped another one */
#define TIMEOUT "SET statement_timeout = '5s'"

/* clang-format off */
enum { FIND, ADMIT };
static const struct statement statements[] = {
	[FIND] = {"find_certificate", "SELECT find_certificate($1::text[])", 1},
	[ADMIT] = {"admit_bearer", "SELECT admit_bearer($1::text, $2::text, $3::text, $4::text, $5::text, $6::text, to_timestamp($7::int8))", 7},
};
/* clang-format on */

/* What the database knows somebody by. */
struct handle {
	uint8_t who[DIGEST_SIZE]; /* of all that he was verified as */
	uint8_t handle[DIGEST_SIZE];
	int64_t since_ms; /* 0: the place is free */
	int64_t expires; /* up to when the database knows that he is vouched for */
};

struct identity {
	struct query_pool *pool;
	struct quota_limits limits; /* of whom the database has no own */
	struct quotas *quotas;
	struct jwks *jwks; /* NULL: no identity provider is trusted */
	int64_t leeway_s;
	pthread_mutex_t handles_lock;
	struct handle handles[HANDLES];
	pthread_mutex_t database_lock;
	struct database *database; /* as the ingest role */
	unsigned set_up; /* the connection that has its limit of time */
};

struct identity *
identity_start(const struct settings *settings, struct query_pool *pool)
{
	bool takes_jwt = setting_given(settings->jwt_issuer) != NULL;
	struct identity *identity = calloc(1, sizeof *identity);

	if (identity == NULL)
		return NULL;
	identity->pool = pool;
	identity->limits = (struct quota_limits){.requests = settings->quota_requests,
						 .bytes = settings->quota_bytes,
						 .exports = settings->quota_exports};
	identity->leeway_s = settings->jwt_leeway;
	pthread_mutex_init(&identity->handles_lock, NULL);
	pthread_mutex_init(&identity->database_lock, NULL);
	identity->quotas = quotas_new(settings->quota_burst);
	identity->database = database_new(settings->database, statements, sizeof statements / sizeof *statements);
	if (identity->quotas == NULL || identity->database == NULL)
		goto fail;
	if (takes_jwt && (identity->jwks = jwks_start(settings)) == NULL)
		goto fail;
	return identity;
fail:
	identity_stop(identity);
	return NULL;
}

void
identity_stop(struct identity *identity)
{
	if (identity == NULL)
		return;
	jwks_stop(identity->jwks);
	database_free(identity->database);
	quotas_free(identity->quotas);
	pthread_mutex_destroy(&identity->database_lock);
	pthread_mutex_destroy(&identity->handles_lock);
	free(identity);
}

/* Handles. */

/* Digests are of what was verified, so nobody chooses where they fall without having signed in. */
static struct handle *
place_of(struct identity *identity, const uint8_t who[DIGEST_SIZE])
{
	return &identity->handles[(who[0] << 8 | who[1]) % HANDLES];
}

static bool
recall(struct identity *identity, const uint8_t who[DIGEST_SIZE], int64_t expires, uint8_t handle[DIGEST_SIZE])
{
	const struct handle *h = place_of(identity, who);
	bool known;

	pthread_mutex_lock(&identity->handles_lock);
	known = h->since_ms != 0 && memcmp(h->who, who, DIGEST_SIZE) == 0 && clock_ms() - h->since_ms < HANDLE_MS &&
		h->expires >= expires;
	if (known)
		memcpy(handle, h->handle, DIGEST_SIZE);
	pthread_mutex_unlock(&identity->handles_lock);
	return known;
}

static void
keep(struct identity *identity, const uint8_t who[DIGEST_SIZE], int64_t expires, const uint8_t handle[DIGEST_SIZE])
{
	struct handle *h = place_of(identity, who);

	pthread_mutex_lock(&identity->handles_lock);
	memcpy(h->who, who, DIGEST_SIZE);
	memcpy(h->handle, handle, DIGEST_SIZE);
	h->since_ms = clock_ms();
	h->expires = expires;
	pthread_mutex_unlock(&identity->handles_lock);
}

/* 1: the handle; 0: there is none; -1: the database does not answer. */
static int
ask(struct identity *identity, int statement, const struct param *params, uint8_t handle[DIGEST_SIZE])
{
	struct slice bytes = {NULL, 0};
	PGresult *res = NULL;
	int rc = -1;

	pthread_mutex_lock(&identity->database_lock);
	if (database_connect(identity->database) != NULL &&
	    (identity->set_up == database_connection(identity->database) ||
	     database_exec(identity->database, TIMEOUT) == 0)) {
		identity->set_up = database_connection(identity->database);
		res = database_run(identity->database, statements[statement].name, params, statements[statement].params,
				   NULL);
	}
	pthread_mutex_unlock(&identity->database_lock);
	if (res != NULL) {
		bytes = result_bytes(res, 0, 0);
		rc = bytes.len == DIGEST_SIZE;
	}
	if (rc == 1)
		memcpy(handle, bytes.at, DIGEST_SIZE);
	PQclear(res);
	return rc;
}

static bool
refuse_unavailable(struct response *response, const char *detail)
{
	response_problem(response, PROBLEM_UNAVAILABLE, "%s", detail);
	response_header(response, "Retry-After", "2");
	return false;
}

/* Bearers. */

/* All by which two are told apart, with a separator that none of them has in it. */
static void
digest_of(const struct jwt *jwt, const char *scopes, uint8_t who[DIGEST_SIZE])
{
	char text[2 * JWT_NAME_SIZE + 1024];
	int len = snprintf(text, sizeof text, "%s\n%s\n%s\n%s\n%s", jwt->subject, jwt->name, jwt->tenant,
			   role_name(jwt->role), scopes);

	sha256((struct slice){(const uint8_t *)text, (size_t)len}, who);
}

/* 1, 0, -1: as ask. */
static int
admit(struct identity *identity, const char *issuer, const struct jwt *jwt, uint8_t handle[DIGEST_SIZE])
{
	char scopes[512], expires[24];
	int64_t end = jwt->expires + identity->leeway_s;
	uint8_t who[DIGEST_SIZE];
	int rc;

	scopes_print(jwt->scopes, scopes, sizeof scopes);
	digest_of(jwt, scopes, who);
	if (recall(identity, who, end, handle))
		return 1;
	snprintf(expires, sizeof expires, "%" PRId64, end);
	const struct param params[] = {
		param_text(issuer),
		param_text(jwt->subject),
		param_text(jwt->name),
		param_text(jwt->tenant[0] == '\0' ? NULL : jwt->tenant),
		param_text(role_name(jwt->role)),
		param_text(scopes),
		param_text(expires),
	};

	rc = ask(identity, ADMIT, params, handle);
	if (rc == 1)
		keep(identity, who, end, handle);
	return rc;
}

static bool
settle_bearer(struct identity *identity, struct request *request, struct response *response)
{
	enum jwt_refusal refusal = JWT_OK;
	struct jwt jwt;

	if (identity->jwks == NULL) {
		response_problem(response, PROBLEM_UNAUTHORIZED, "No identity provider's tokens are taken here.");
		return false;
	}
	if (!jwks_verify(identity->jwks, request->jwt, clock_now_us() / 1000000, &jwt, &refusal))
		return refuse_unavailable(response, "The identity provider's keys are not here yet.");
	if (refusal != JWT_OK) {
		response_problem(response, PROBLEM_UNAUTHORIZED, "The token is not taken: %s.", jwt_why(refusal));
		return false;
	}
	switch (admit(identity, jwks_issuer(identity->jwks), &jwt, request->token)) {
	case 1:
		return true;
	case 0:
		response_problem(response, PROBLEM_UNAUTHORIZED, "The token is not taken: there is no such tenant.");
		return false;
	default:
		return refuse_unavailable(response, "");
	}
}

/* Certificates. */

/* 1, 0, -1: as ask. */
static int
find(struct identity *identity, const struct certificate_marks *marks, uint8_t handle[DIGEST_SIZE])
{
	struct pg_array list = {0};
	struct param param;
	int rc;

	pg_array_begin(&list, ARRAY_TEXT);
	for (size_t i = 0; i < marks->n; i++)
		pg_array_bytes(&list, (struct slice){(const uint8_t *)marks->text[i], strlen(marks->text[i])});
	param = pg_array_param(&list);
	rc = ask(identity, FIND, &param, handle);
	pg_array_free(&list);
	return rc;
}

/* What it is worth was judged when it was shown. */
static bool
settle_certificate(struct identity *identity, struct request *request, struct response *response)
{
	struct certificate_marks marks;
	uint8_t who[DIGEST_SIZE];
	int rc = 0;

	memcpy(who, request->token, sizeof who);
	if (recall(identity, who, 0, request->token))
		return true;
	if (certificate_marks(request->certificate, &marks) == 0)
		rc = find(identity, &marks, request->token);
	if (rc < 0)
		return refuse_unavailable(response, "");
	if (rc == 0)
		response_problem(response, PROBLEM_UNAUTHORIZED, "Nobody has mapped the certificate.");
	else
		keep(identity, who, 0, request->token);
	return rc == 1;
}

/* Quotas. */

/* Whose quota it is counted for. Nobody's is what is refused later, or asked while the database does not answer. */
static void
find_account(struct identity *identity, struct request *request)
{
	struct quota_limits limits = identity->limits;
	int64_t now = clock_ms(), token = quotas_find(identity->quotas, request->token, now);

	if (token == 0) {
		token = query_quota(identity->pool, request->token, &limits);
		if (token > 0)
			quotas_learn(identity->quotas, request->token, token, &limits, now);
	}
	request->quota_token = token > 0 ? token : 0;
}

static void
refuse(struct response *response, enum counter counter, int64_t wait_ms, const char *detail)
{
	counter_add(counter, 1);
	response_problem(response, PROBLEM_OVER_QUOTA, "%s", detail);
	response_header(response, "Retry-After", "%" PRId64, wait_ms <= 1000 ? 1 : (wait_ms + 999) / 1000);
}

static bool
is_within_quota(struct identity *identity, struct request *request, struct response *response)
{
	int64_t wait_ms;

	switch (quotas_ask(identity->quotas, request->quota_token, clock_ms(), &wait_ms)) {
	case QUOTA_REQUESTS:
		refuse(response, COUNTER_QUOTA_REQUESTS, wait_ms, "Too many requests a second.");
		return false;
	case QUOTA_BYTES:
		refuse(response, COUNTER_QUOTA_BYTES, wait_ms, "Too many bytes a second.");
		return false;
	default:
		return true;
	}
}

int64_t
identity_spend(struct identity *identity, const struct request *request, uint64_t bytes)
{
	return request->quota_token == 0 ? 0 : quotas_spend(identity->quotas, request->quota_token, bytes, clock_ms());
}

/* Before anything is asked of the database for it. */
static bool
has_room(struct identity *identity, struct request *request, struct response *response)
{
	if (!routes_streams(request))
		return true;
	request->exports = quotas_enter(identity->quotas, request->quota_token);
	if (!request->exports)
		refuse(response, COUNTER_QUOTA_EXPORTS, 5000, "Too many exports or streams are open.");
	return request->exports;
}

void
identity_leave(struct identity *identity, struct request *request)
{
	if (request->exports)
		quotas_leave(identity->quotas, request->quota_token);
	request->exports = false;
}

bool
identity_settle(struct identity *identity, struct request *request, struct response *response)
{
	if (request->route->least == ROLE_NONE || request->malformed != NULL)
		return true;
	if ((request->jwt != NULL && !settle_bearer(identity, request, response)) ||
	    (request->by_certificate && !settle_certificate(identity, request, response)))
		return false;
	find_account(identity, request);
	return request->quota_token == 0 ||
	       (is_within_quota(identity, request, response) && has_room(identity, request, response));
}

/* Of tokens, sessions and mappings the database says so with each query; certificates are looked at by their connection. */
bool
identity_renew(struct identity *identity, struct request *request, struct response *response)
{
	return request->jwt == NULL || settle_bearer(identity, request, response);
}
