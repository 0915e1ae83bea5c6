#include "collector/query.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "collector/clock.h"
#include "collector/counters.h"
#include "collector/repeat.h"
#include "collector/routes.h"
#include "collector/words.h"
#include "schema/log.h"

#define GRACE_MS 2000 /* beyond the server's own limit: then its connection is given up */

/* What the database knows a request by that may be repeated. */
struct repeat_keys {
	uint8_t key[DIGEST_SIZE], request[DIGEST_SIZE];
};

/* Waits until a result can be read without blocking. */
static int
await(PGconn *conn, int64_t deadline_ms)
{
	while (PQisBusy(conn)) {
		struct pollfd fd = {.fd = PQsocket(conn), .events = POLLIN};
		int64_t left = deadline_ms - clock_ms();

		if (left <= 0 || (poll(&fd, 1, (int)left) < 0 && errno != EINTR) || !PQconsumeInput(conn))
			return -1;
	}
	return 0;
}

static int
send_call(PGconn *conn, const char *name, const struct param *params, int n)
{
	const char *values[QUERY_PARAMS];
	int lengths[QUERY_PARAMS], formats[QUERY_PARAMS];

	assert(n <= QUERY_PARAMS);
	for (int i = 0; i < n; i++) {
		values[i] = params[i].at;
		lengths[i] = params[i].len;
		formats[i] = params[i].binary;
	}
	return PQsendQueryPrepared(conn, name, n, values, lengths, formats, 1) == 1 ? 0 : -1;
}

/* The next statement's result; the NULL that libpq gives behind each is taken too. NULL if the connection is of no use any more. */
static PGresult *
next_result(PGconn *conn, int64_t deadline_ms)
{
	PGresult *res, *end;

	if (await(conn, deadline_ms) < 0 || (res = PQgetResult(conn)) == NULL)
		return NULL;
	if (PQresultStatus(res) == PGRES_PIPELINE_SYNC)
		return res;
	if (await(conn, deadline_ms) < 0 || (end = PQgetResult(conn)) != NULL) {
		PQclear(res);
		return NULL;
	}
	return res;
}

static int
send_all(PGconn *conn, const struct call *calls, size_t n)
{
	if (!PQenterPipelineMode(conn))
		return -1;
	for (size_t i = 0; i < n; i++)
		if (send_call(conn, query_statements[calls[i].query].name, calls[i].params, calls[i].n) < 0)
			return -1;
	return PQpipelineSync(conn) == 1 ? 0 : -1;
}

void
query_device(const struct request *request, struct response *response, const PGresult *rows, int row, int column,
	     struct device_row *device)
{
	struct slice own[DEVICE_WIDTH];

	for (int i = 0; i < DEVICE_WIDTH; i++)
		own[i] = query_bytes(rows, row, column + i);
	if (!device_read(own, device))
		response->failed = true;
	device->cells[DEVICE_TENANT] = (struct slice){(const uint8_t *)request->tenant_name, request->tenant_name_len};
}

/* What the database says when it will not. FS... are our own functions'. */
static void
answer_error(struct request *request, struct response *response, enum query query, const PGresult *res)
{
	static const struct {
		const char *state;
		enum problem problem;
		const char *detail; /* NULL: as the database says it */
	} rows[] = {
		{"FS400", PROBLEM_BAD_BODY, NULL},
		{"FS4PA", PROBLEM_BAD_PARAMETER, NULL},
		{"FS410", PROBLEM_GONE, NULL},
		{"FS401", PROBLEM_UNAUTHORIZED, "The token is not known, or was revoked, or its time is over."},
		{"FS403", PROBLEM_FORBIDDEN, NULL},
		{"FS404", PROBLEM_NOT_FOUND, "There is no such tenant."},
		{"FS409", PROBLEM_CONFLICT, NULL},
		{"FS40R", PROBLEM_TOO_MANY_REGISTRATIONS, NULL},
		{"FS412", PROBLEM_PRECONDITION_FAILED, "It is at another revision."},
		{"FS503", PROBLEM_NOT_YET, NULL},
		{"23505", PROBLEM_CONFLICT, "Somebody else made the same at the same time."},
		{"22007", PROBLEM_BAD_PARAMETER, "There is no such time."},
		{"22008", PROBLEM_BAD_PARAMETER, "There is no such time."},
		{"22009", PROBLEM_BAD_PARAMETER, "There is no such time."},
		{"57014", PROBLEM_TIMEOUT, "The query took longer than it may. Narrow what it asks for."},
	};
	const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
	const char *message = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
	const char *place = PQresultErrorField(res, PG_DIAG_MESSAGE_DETAIL);

	if (state != NULL && strcmp(state, "FS400") == 0 &&
	    (query == QUERY_SIGN_IN || query == QUERY_SIGN_IN_OPERATOR)) {
		response_problem(response, PROBLEM_TENANT_REQUIRED, "Add ?tenant= with the tenant's id.");
		return;
	}
	for (size_t i = 0; state != NULL && i < sizeof rows / sizeof *rows; i++)
		if (strcmp(state, rows[i].state) == 0) {
			response_problem(response, rows[i].problem, "%s",
					 rows[i].detail != NULL ? rows[i].detail : message);
			if (state[0] == 'F' && place != NULL && atoll(place) > 0)
				response_member(response, "position", atoll(place));
			if (rows[i].problem == PROBLEM_NOT_YET)
				response_header(response, "Retry-After", "5");
			return;
		}
	log_error("query: route=%s sqlstate=%s %s", request->route->path, state == NULL ? "-" : state,
		  PQresultErrorMessage(res));
	/* Nothing was done, and may be when it is asked for again: by class. */
	if (state != NULL && (strncmp(state, "40", 2) == 0 || strncmp(state, "57", 2) == 0)) {
		response_problem(response, PROBLEM_UNAVAILABLE, "%s",
				 state[0] == '4' ? "Somebody else changed the same at the same time. Ask again." : "");
		response_header(response, "Retry-After", "1");
		return;
	}
	response_problem(response, PROBLEM_INTERNAL, "%s", "");
}

/* A session is opened and closed with whatever scopes. */
static bool
is_within(const struct request *request, uint32_t scopes)
{
	bool own = request->needs == 0;

	return own || (request->route->how != ROUTE_WRITES && (request->needs & ~scopes) == 0);
}

static int
check_sign_in(struct request *request, struct response *response, const PGresult *res)
{
	struct slice name = query_bytes(res, 0, 1), scopes = query_bytes(res, 0, 2), tenant_name;
	char text[16] = "";
	int32_t tenant;
	enum role role;

	if (!PQgetisnull(res, 0, 0)) {
		assert(PQgetlength(res, 0, 0) == 4);
		memcpy(&tenant, PQgetvalue(res, 0, 0), 4);
		request->tenant_id = (int32_t)be32toh((uint32_t)tenant);
	}
	if (PQnfields(res) > 3) {
		tenant_name = query_bytes(res, 0, 3);
		assert(tenant_name.len <= sizeof request->tenant_name); /* as tenant.id has it */
		memcpy(request->tenant_name, tenant_name.at, tenant_name.len);
		request->tenant_name_len = tenant_name.len;
	}
	if (name.len < sizeof text)
		memcpy(text, name.at, name.len);
	request->by_operator = word_is(name, role_name(ROLE_OPERATOR));
	if (!role_parse(text, &role) || role < request->route->least) {
		response_problem(response, PROBLEM_FORBIDDEN, "The role is %s.", text);
		return -1;
	}
	if (scopes.at != NULL && !is_within(request, scopes_parse((const char *)scopes.at, scopes.len))) {
		response_problem(response, PROBLEM_FORBIDDEN, "It reads within its scopes only: %.*s.", (int)scopes.len,
				 (const char *)scopes.at);
		return -1;
	}
	return 0;
}

static bool
is_good(const PGresult *res)
{
	return PQresultStatus(res) == PGRES_TUPLES_OK || PQresultStatus(res) == PGRES_COMMAND_OK;
}

/* As receive_all, but for the sync. */
static int
receive(PGconn *conn, struct request *request, struct response *response, const struct call *calls, size_t n,
	PGresult **results, int64_t deadline)
{
	int outcome = 0;

	for (size_t i = 0; i < n; i++) {
		results[i] = next_result(conn, deadline);
		if (results[i] == NULL)
			return -1;
		if (outcome == 0 && !is_good(results[i])) {
			answer_error(request, response, calls[i].query, results[i]);
			outcome = 1;
		}
	}
	return outcome;
}

static int
receive_sync(PGconn *conn, int64_t deadline)
{
	PGresult *sync = next_result(conn, deadline);
	bool good = PQresultStatus(sync) == PGRES_PIPELINE_SYNC;

	PQclear(sync);
	return good && PQexitPipelineMode(conn) == 1 ? 0 : -1;
}

/* Reads all that was sent, up to the sync. -1: the connection is of no use; 1: the response is a problem. */
static int
receive_all(PGconn *conn, struct request *request, struct response *response, const struct call *calls, size_t n,
	    PGresult **results)
{
	int64_t deadline = clock_ms() + query_pool_ms(request->pool) + GRACE_MS;
	int outcome = receive(conn, request, response, calls, n, results, deadline);

	return outcome >= 0 && receive_sync(conn, deadline) < 0 ? -1 : outcome;
}

static void
clear_all(PGresult **results, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		PQclear(results[i]);
		results[i] = NULL;
	}
}

/* One round trip. As receive_all. */
static int
converse(PGconn *conn, struct request *request, struct response *response, const struct call *calls, size_t n,
	 PGresult **results)
{
	return send_all(conn, calls, n) < 0 ? -1 : receive_all(conn, request, response, calls, n, results);
}

static struct call
as_caller(const struct request *request, enum query query)
{
	return (struct call){
		query, {param_bytes(request->token, sizeof request->token), param_text(request->tenant)}, 2};
}

static struct call
sign_in(const struct request *request)
{
	return as_caller(request, request->of_none ? QUERY_SIGN_IN_OPERATOR : QUERY_SIGN_IN);
}

/* Sign-in and the calls at once: a transaction of its own by the protocol, read-only by our settings. */
static int
read_as(PGconn *conn, struct request *request, struct response *response, const struct call *calls, size_t n,
	PGresult **results)
{
	struct call all[1 + QUERY_CALLS];
	PGresult *got[1 + QUERY_CALLS] = {NULL};
	int outcome;

	all[0] = sign_in(request);
	for (size_t i = 0; i < n; i++)
		all[1 + i] = calls[i];
	outcome = converse(conn, request, response, all, 1 + n, got);
	if (outcome == 0 && check_sign_in(request, response, got[0]) < 0)
		outcome = 1;
	PQclear(got[0]);
	for (size_t i = 0; i < n; i++)
		results[i] = got[1 + i];
	return outcome;
}

/* Reads the last call's rows one by one. What is not wanted any more is read all the same: the connection is another's next. */
static int
receive_rows(PGconn *conn, struct request *request, struct response *response, const struct call *call,
	     query_taker *take, void *context, int64_t deadline)
{
	bool wanted = true;
	int outcome = 0;
	PGresult *res;

	if (PQsetSingleRowMode(conn) != 1)
		return -1;
	while (await(conn, deadline) == 0) {
		res = PQgetResult(conn);
		if (res == NULL)
			return outcome;
		if (PQresultStatus(res) == PGRES_SINGLE_TUPLE) {
			wanted = wanted && take(context, res);
		} else if (!is_good(res)) {
			answer_error(request, response, call->query, res);
			outcome = 1;
		}
		PQclear(res);
	}
	return -1;
}

/* As read_as; of the last call the rows are taken. */
static int
read_rows(PGconn *conn, struct request *request, struct response *response, const struct call *calls, size_t n,
	  query_taker *take, void *context)
{
	int64_t deadline = clock_ms() + query_pool_ms(request->pool) + GRACE_MS;
	PGresult *got[1 + QUERY_CALLS] = {NULL};
	int outcome = send_all(conn, calls, n);

	if (outcome == 0)
		outcome = receive(conn, request, response, calls, n - 1, got, deadline);
	if (outcome == 0 && check_sign_in(request, response, got[0]) < 0)
		outcome = 1;
	if (outcome == 0)
		outcome = receive_rows(conn, request, response, &calls[n - 1], take, context, deadline);
	else if (outcome == 1 && (got[n - 1] = next_result(conn, deadline)) == NULL)
		outcome = -1;
	clear_all(got, n);
	return outcome >= 0 && receive_sync(conn, deadline) < 0 ? -1 : outcome;
}

static struct call
as_change(const struct request *request)
{
	return (struct call){QUERY_AUDIT_CHANGED,
			     {param_bytes(request->token, sizeof request->token), param_text(request->route->method),
			      param_text(request->noted), param_text(request->source)},
			     4};
}

static struct call
as_repeat(const struct request *request, enum query query, const struct repeat_keys *keys)
{
	return (struct call){query,
			     {param_bytes(request->token, sizeof request->token), param_bytes(keys->key, DIGEST_SIZE),
			      param_bytes(keys->request, DIGEST_SIZE)},
			     3};
}

static struct repeat_keys
repeat_keys(const struct request *request)
{
	struct repeat_keys keys;

	repeat_key_hash(request->idempotency_key, keys.key);
	repeat_digest(request, keys.request);
	return keys;
}

/* Whether a request with a key is to be done. -1: the response is the answer that was given before, or why there is none. */
static int
check_claim(struct request *request, struct response *response, const PGresult *res)
{
	struct slice state = query_bytes(res, 0, 0);

	if (word_is(state, "new"))
		return 0;
	if (word_is(state, "busy"))
		response_problem(response, PROBLEM_KEY_IN_USE, "%s", "");
	else if (word_is(state, "other"))
		response_problem(response, PROBLEM_KEY_REUSED, "%s", "");
	else if (repeat_open(request, query_bytes(res, 0, 1), response) < 0)
		response_problem(response, PROBLEM_INTERNAL, "%s", "");
	else
		request->tries = true; /* who is told once more, a secret maybe, has read it */
	return -1;
}

/* Nothing is written before the caller's role is known, nor twice what may be repeated. */
static int
begin_write(PGconn *conn, struct request *request, struct response *response)
{
	struct call begin[3] = {{.query = QUERY_BEGIN}, sign_in(request)};
	PGresult *got[3] = {NULL};
	struct repeat_keys keys;
	size_t n = 2;
	int outcome;

	if (request->idempotency_key != NULL) {
		keys = repeat_keys(request);
		begin[n++] = as_repeat(request, QUERY_REPEAT_CLAIM, &keys);
	}
	outcome = converse(conn, request, response, begin, n, got);
	if (outcome == 0 &&
	    (check_sign_in(request, response, got[1]) < 0 || (n == 3 && check_claim(request, response, got[2]) < 0)))
		outcome = 1;
	clear_all(got, n);
	return outcome;
}

static int
roll_back(PGconn *conn, struct request *request, struct response *response)
{
	const struct call rollback = {.query = QUERY_ROLLBACK};
	PGresult *end = NULL;
	int outcome = converse(conn, request, response, &rollback, 1, &end);

	PQclear(end);
	return outcome < 0 ? -1 : 1;
}

/* Nothing stays if a call fails. */
static int
write_as(PGconn *conn, struct request *request, struct response *response, const struct call *calls, size_t n,
	 PGresult **results)
{
	int outcome = request->writing == NULL ? begin_write(conn, request, response) : 0;

	if (outcome == 0)
		outcome = converse(conn, request, response, calls, n, results);
	return outcome == 1 ? roll_back(conn, request, response) : outcome;
}

/* The entry in the audit log comes last: from it to the commit nobody else writes one. */
static int
end_write(PGconn *conn, struct request *request, struct response *response)
{
	struct call end[3];
	PGresult *results[3] = {NULL};
	struct repeat_keys keys;
	uint8_t *sealed = NULL;
	size_t n = 0, len;
	int outcome = response->failed ? 1 : 0;

	if (outcome == 0 && request->idempotency_key != NULL) {
		keys = repeat_keys(request);
		end[n] = as_repeat(request, QUERY_REPEAT_KEEP, &keys);
		outcome = repeat_close(request, response, &sealed, &len) < 0 ? 1 : 0;
		response->failed = outcome != 0;
		end[n].params[end[n].n++] = param_bytes(sealed, len);
		n++;
	}
	if (outcome == 0) {
		end[n++] = as_change(request);
		end[n++] = (struct call){.query = QUERY_COMMIT};
		outcome = converse(conn, request, response, end, n, results);
		clear_all(results, n);
	}
	free(sealed);
	return outcome == 1 ? roll_back(conn, request, response) : outcome;
}

static void
lose(struct request *request, struct response *response, struct connection *c, PGconn *conn)
{
	if (conn != NULL)
		log_error("query: route=%s connection lost: %s", request->route->path, PQerrorMessage(conn));
	connection_drop(c);
	response_problem(response, PROBLEM_UNAVAILABLE, "%s", "");
	response_header(response, "Retry-After", "2");
}

typedef int conversation(PGconn *, struct request *, struct response *, const struct call *, size_t, PGresult **);

static int
run(conversation *talk, struct request *request, struct response *response, const struct call *calls, size_t n,
    PGresult **results)
{
	struct connection *c = request->writing != NULL ? request->writing : query_pool_take(request->pool);
	PGconn *conn = connection_open(c, request->writing != NULL); /* a transaction does not go on on another */
	int outcome = -1;

	assert(n <= QUERY_CALLS);
	for (size_t i = 0; i < n; i++)
		results[i] = NULL;
	if (conn != NULL)
		outcome = talk(conn, request, response, calls, n, results);
	if (outcome < 0)
		lose(request, response, c, conn);
	/* What writes keeps its connection until query_end. */
	request->writing = outcome == 0 && talk == write_as ? c : NULL;
	if (request->writing == NULL)
		query_pool_give_back(request->pool, c);
	if (outcome == 0)
		return 0;
	clear_all(results, n);
	return -1;
}

static void
end(int (*how)(PGconn *, struct request *, struct response *), struct request *request, struct response *response)
{
	struct connection *c = request->writing;
	PGconn *conn;

	if (c == NULL)
		return;
	conn = connection_open(c, true);
	if (conn == NULL || how(conn, request, response) < 0)
		lose(request, response, c, conn);
	request->writing = NULL;
	query_pool_give_back(request->pool, c);
}

void
query_undo(struct request *request, struct response *response)
{
	end(roll_back, request, response);
}

void
query_end(struct request *request, struct response *response)
{
	end(end_write, request, response);
}

int
query_run(struct request *request, struct response *response, const struct call *calls, size_t n, PGresult **results)
{
	return run(request->route->how == ROUTE_WRITES ? write_as : read_as, request, response, calls, n, results);
}

int
query_write(struct request *request, struct response *response, const struct call *calls, size_t n, PGresult **results)
{
	return run(write_as, request, response, calls, n, results);
}

void
query_remove(struct request *request, struct response *response, const struct call *call, const char *missing)
{
	PGresult *rows;

	if (body_check(request->body.json, response, NULL, 0) < 0 || query_run(request, response, call, 1, &rows) < 0)
		return;
	if (query_int8(rows, 0, 0) != 0) {
		response_empty(response);
	} else {
		/* Nothing was changed, which is not to be told as a change. */
		query_undo(request, response);
		response_problem(response, PROBLEM_NOT_FOUND, "%s", missing);
	}
	PQclear(rows);
}

int
query_refuse_preview(struct response *response, const char *detail)
{
	counter_add(COUNTER_PREVIEWS_REFUSED, 1);
	response_problem(response, PROBLEM_TOO_MANY_PREVIEWS, "%s", detail);
	response_header(response, "Retry-After", "1");
	return -1;
}

static struct call
limit(const struct query_pool *pool)
{
	return (struct call){QUERY_PREVIEW_LIMIT, {param_text(query_pool_preview_ms(pool))}, 1};
}

int
query_limited(struct request *request, struct response *response, const struct call *call, PGresult **result)
{
	struct query_pool *pool = request->pool;
	struct call calls[2] = {limit(pool), *call};
	PGresult *results[2];
	int rc;

	if (!query_pool_enter(pool))
		return query_refuse_preview(response, "As many run as may at once.");
	rc = query_run(request, response, calls, 2, results);
	query_pool_leave(pool);
	if (rc < 0)
		return -1;
	PQclear(results[0]);
	*result = results[1];
	return 0;
}

int
query_rows(struct request *request, struct response *response, const struct call *call, bool limited, query_taker *take,
	   void *context)
{
	struct query_pool *pool = request->pool;
	struct call calls[1 + QUERY_CALLS] = {sign_in(request)};
	struct connection *c;
	size_t n = 1;
	PGconn *conn;
	int outcome;

	if (limited && !query_pool_enter(pool))
		return query_refuse_preview(response, "As many run as may at once.");
	if (limited)
		calls[n++] = limit(pool);
	calls[n++] = *call;
	c = query_pool_take(pool);
	conn = connection_open(c, false);
	outcome = conn == NULL ? -1 : read_rows(conn, request, response, calls, n, take, context);
	if (outcome < 0)
		lose(request, response, c, conn);
	query_pool_give_back(pool, c);
	if (limited)
		query_pool_leave(pool);
	return outcome == 0 ? 0 : -1;
}

bool
query_may(struct request *request, struct response *response)
{
	return run(read_as, request, response, NULL, 0, NULL) == 0;
}

int
query_fleet_metrics(struct request *request, struct response *response, PGresult **result)
{
	struct call call = as_caller(request, QUERY_FLEET_METRICS);

	return run(converse, request, response, &call, 1, result);
}

struct slice
query_bytes(const PGresult *res, int row, int column)
{
	int len = row < PQntuples(res) ? PQgetlength(res, row, column) : 0;

	if (len == 0 && (row >= PQntuples(res) || PQgetisnull(res, row, column)))
		return (struct slice){NULL, 0};
	return (struct slice){(const uint8_t *)PQgetvalue(res, row, column), (size_t)len};
}

int64_t
query_int8(const PGresult *res, int row, int column)
{
	struct slice bytes = query_bytes(res, row, column);
	uint64_t number;

	if (bytes.at == NULL)
		return 0;
	assert(bytes.len == sizeof number);
	memcpy(&number, bytes.at, sizeof number);
	return (int64_t)be64toh(number);
}
