#include "collector/identity.h"

#include <inttypes.h>
#include <stdlib.h>

#include "collector/clock.h"
#include "collector/counters.h"
#include "collector/routes.h"

struct identity {
	struct query_pool *pool;
	struct quota_limits limits; /* of whom the database has no own */
	struct quotas *quotas;
};

struct identity *
identity_start(const struct settings *settings, struct query_pool *pool)
{
	struct identity *identity = calloc(1, sizeof *identity);

	if (identity == NULL)
		return NULL;
	identity->pool = pool;
	identity->limits = (struct quota_limits){.requests = settings->quota_requests,
						 .bytes = settings->quota_bytes,
						 .exports = settings->quota_exports};
	identity->quotas = quotas_new(settings->quota_burst);
	if (identity->quotas != NULL)
		return identity;
	identity_stop(identity);
	return NULL;
}

void
identity_stop(struct identity *identity)
{
	if (identity == NULL)
		return;
	quotas_free(identity->quotas);
	free(identity);
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
	if (request->route->least == ROLE_NONE || request->malformed)
		return true;
	find_account(identity, request);
	return request->quota_token == 0 ||
	       (is_within_quota(identity, request, response) && has_room(identity, request, response));
}
