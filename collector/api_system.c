/* The collector itself: its numbers, its health, and the files it carries. */
#include <inttypes.h>
#include <string.h>

#include "collector/assets.h"
#include "collector/counters.h"
#include "collector/query.h"
#include "collector/routes.h"
#include "collector/serve.h"

#define WHY_SIZE 128

static const struct {
	const char *url, *type;
	const uint8_t *at, *end;
} assets[] = {
#define MIGRATION(number, path)
#define ASSET(symbol, path, url, type) {url, type, asset_##symbol, asset_##symbol##_end},
#include "collector/assets.def"
#undef MIGRATION
#undef ASSET
};

void
api_asset(struct request *request, struct response *response)
{
	const char *name = request->segments[0];

	for (size_t i = 0; i < sizeof assets / sizeof *assets; i++)
		if (strcmp(assets[i].url + 1, name) == 0) {
			response->status = 200;
			response->type = assets[i].type;
			response->fixed = (struct slice){assets[i].at, (size_t)(assets[i].end - assets[i].at)};
			return;
		}
	response_problem(response, PROBLEM_NOT_FOUND, "%s", "");
}

void
api_healthz(struct request *request, struct response *response)
{
	static const char text[] = "{\"status\":\"alive\"}";

	(void)request;
	response_json(response, (struct slice){(const uint8_t *)text, sizeof text - 1});
}

/* Names and reasons are the collector's own words, without anything that JSON would escape. */
static void
add_check(struct response *response, const char *name, bool ready, const char *why)
{
	response_printf(response, "%s{\"name\":\"%s\",\"ready\":%s",
			response->body[response->len - 1] == '[' ? "" : ",", name, ready ? "true" : "false");
	if (!ready)
		response_printf(response, ",\"why\":\"%s\"", why[0] == '\0' ? "not ready" : why);
	response_text(response, "}");
}

void
api_readyz(struct request *request, struct response *response)
{
	bool all = true;

	response_json(response, (struct slice){NULL, 0});
	response_text(response, "{\"checks\":[");
	for (size_t i = 0; i <= request->readiness_len && !response->failed; i++) {
		const struct readiness *check = i == 0 ? NULL : &request->readiness[i - 1];
		char why[WHY_SIZE] = "";
		bool ready = check == NULL ? query_ready(request->pool, why) : check->ready(check->context, why);

		add_check(response, check == NULL ? "database" : check->name, ready, why);
		all = all && ready;
	}
	response_printf(response, "],\"ready\":%s}", all ? "true" : "false");
	if (!all)
		response->status = 503;
}

/* The text format of OpenMetrics 1.0 that Prometheus reads as well: one family a counter, and the refusals as one family by reason. */
static void
print_counters(struct response *response)
{
	for (enum counter c = 0; c < COUNTERS; c++) {
		const struct counter_row *row = counter_row(c);
		bool total = row->kind == COUNTER_KIND_counter;

		response_printf(response,
				"# TYPE fleetstate_%s %s\n# HELP fleetstate_%s %s\nfleetstate_%s%s %" PRId64 "\n",
				row->name, total ? "counter" : "gauge", row->name, row->help, row->name,
				total ? "_total" : "", counter_get(c));
	}
	response_text(response,
		      "# TYPE fleetstate_refused counter\n# HELP fleetstate_refused messages refused, by reason\n");
	for (enum reason r = REASON_OK + 1; r < REASONS; r++)
		response_printf(response, "fleetstate_refused_total{reason=\"%s\"} %" PRId64 "\n", reason_name(r),
				counter_refused_get(r));
	response_text(response, "# EOF\n");
}

/* They are the collector's, not a tenant's: any good token will do, and an operator need not name a tenant. */
void
api_metrics(struct request *request, struct response *response)
{
	struct call call = {.query = QUERY_READY};
	PGresult *rows;

	if (query_run(request, response, &call, 1, &rows) < 0 && response->problem != PROBLEM_TENANT_REQUIRED)
		return;
	PQclear(rows);
	response_json(response, (struct slice){NULL, 0});
	response->type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
	print_counters(response);
}
