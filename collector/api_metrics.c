/* What monitoring draws: the collector's own numbers, and counts of the devices that the caller may see. Two spellings of the same: OpenMetrics
   1.0, which names a counter's family without _total, and the older text format of Prometheus. */
#include <inttypes.h>
#include <string.h>

#include "collector/counters.h"
#include "collector/query.h"
#include "collector/routes.h"
#include "collector/serve.h"
#include "collector/words.h"

#define WHY_SIZE 128

static const struct {
	const char *name, *help, *unit; /* NULL: none */
} fleet[] = {
	{"devices", "active devices, by posture", NULL},
	{"devices_by_lifecycle", "devices, by lifecycle", NULL},
	{"reports_missing", "sequence numbers of reports that have not come and were not declared dropped", NULL},
	{"sink_lag_events", "positions that a sink has not got past; the tenant is empty for an operator's", NULL},
	{"sink_lag_seconds", "age of the oldest event that a sink has not been sent", "seconds"},
	{"sink_failing", "whether a sink's last message did not get through", NULL},
	{"sink_delivered", "events delivered to a sink since it was made", NULL},
	{"sink_retried", "messages to a sink that had to be sent again", NULL},
	{"sink_dead", "events that a sink refused for good", NULL},
	{"sink_missed", "positions that were past their retention before the sink's turn came", NULL},
};

/* OpenMetrics wants a family's unit told where its name ends with one. */
static void
print_head(struct response *response, bool openmetrics, const char *name, const char *type, const char *unit,
	   const char *help)
{
	const char *suffix = !openmetrics && strcmp(type, "counter") == 0 ? "_total" : "";

	response_printf(response, "# TYPE fleetstate_%s%s %s\n", name, suffix, type);
	if (openmetrics && unit[0] != '\0')
		response_printf(response, "# UNIT fleetstate_%s %s\n", name, unit);
	response_printf(response, "# HELP fleetstate_%s%s %s\n", name, suffix, help);
}

static void
print_seconds(struct response *response, int64_t us)
{
	response_printf(response, " %" PRId64 ".%06" PRId64 "\n", us / 1000000, us % 1000000);
}

static void
print_counters(struct response *response, bool openmetrics)
{
	for (enum counter c = 0; c < COUNTERS; c++) {
		const struct counter_row *row = counter_row(c);
		bool total = row->kind == COUNTER_KIND_counter;

		print_head(response, openmetrics, row->name, total ? "counter" : "gauge", row->unit, row->help);
		response_printf(response, "fleetstate_%s%s", row->name, total ? "_total" : "");
		if (strcmp(row->unit, "seconds") == 0)
			print_seconds(response, counter_get(c));
		else
			response_printf(response, " %" PRId64 "\n", counter_get(c));
	}
}

static void
print_refusals(struct response *response, bool openmetrics)
{
	print_head(response, openmetrics, "refused", "counter", "", "messages refused, by reason");
	for (enum reason r = REASON_OK + 1; r < REASONS; r++)
		response_printf(response, "fleetstate_refused_total{reason=\"%s\"} %" PRId64 "\n", reason_name(r),
				counter_refused_get(r));
}

static void
print_problems(struct response *response, bool openmetrics)
{
	print_head(response, openmetrics, "http_problems", "counter", "",
		   "problems answered to HTTP requests, by name");
	for (enum problem p = PROBLEM_NONE + 1; p < PROBLEMS; p++)
		response_printf(response, "fleetstate_http_problems_total{problem=\"%s\"} %" PRId64 "\n",
				problem_name(p), counter_problem_get(p));
}

static void
print_latency(struct response *response, bool openmetrics)
{
	struct counter_latency latency = counter_latency();
	int64_t n = 0;

	print_head(response, openmetrics, "report_latency_seconds", "histogram", "seconds",
		   "time from a report's arrival to the commit of its batch");
	for (size_t i = 0; i <= COUNTER_BOUNDS; i++) {
		n += latency.n[i];
		if (i < COUNTER_BOUNDS)
			response_printf(response, "fleetstate_report_latency_seconds_bucket{le=\"%g\"} %" PRId64 "\n",
					(double)latency.bound_us[i] / 1e6, n);
		else
			response_printf(response, "fleetstate_report_latency_seconds_bucket{le=\"+Inf\"} %" PRId64 "\n",
					n);
	}
	response_text(response, "fleetstate_report_latency_seconds_sum");
	print_seconds(response, latency.sum_us);
	response_printf(response, "fleetstate_report_latency_seconds_count %" PRId64 "\n", n);
}

/* The database's own is `up`: without it nobody's token is known, and there is no answer. */
static void
print_readiness(const struct request *request, struct response *response)
{
	print_head(response, request->openmetrics, "ready", "gauge", "",
		   "whether a part of the collector can do its work, as /readyz says");
	for (size_t i = 0; i < request->readiness_len; i++) {
		const struct readiness *check = &request->readiness[i];
		char why[WHY_SIZE] = "";

		response_printf(response, "fleetstate_ready{check=\"%s\"} %d\n", check->name,
				check->ready(check->context, why));
	}
}

static void
print_text(struct response *response, const PGresult *rows, int row, int column)
{
	struct slice text = query_bytes(rows, row, column);

	response_append(response, text.at, text.len);
}

/* A row of one family: (family, tenant, label, value, n). Tenants' names, labels and values hold nothing that would have to be escaped. */
static void
print_row(struct response *response, const PGresult *rows, int row)
{
	response_text(response, "fleetstate_");
	print_text(response, rows, row, 0);
	response_text(response, "{tenant=\"");
	print_text(response, rows, row, 1);
	if (query_bytes(rows, row, 2).at != NULL) {
		response_text(response, "\",");
		print_text(response, rows, row, 2);
		response_text(response, "=\"");
		print_text(response, rows, row, 3);
	}
	response_printf(response, "\"} %" PRId64 "\n", query_int8(rows, row, 4));
}

static void
print_fleet(struct response *response, bool openmetrics, const PGresult *rows)
{
	for (size_t i = 0; i < sizeof fleet / sizeof *fleet; i++) {
		print_head(response, openmetrics, fleet[i].name, "gauge", fleet[i].unit == NULL ? "" : fleet[i].unit,
			   fleet[i].help);
		for (int row = 0; row < PQntuples(rows); row++) {
			struct slice family = query_bytes(rows, row, 0);

			if (word_is(family, fleet[i].name))
				print_row(response, rows, row);
		}
	}
}

void
api_metrics(struct request *request, struct response *response)
{
	PGresult *rows;

	if (query_fleet_metrics(request, response, &rows) < 0)
		return;
	response_json(response, (struct slice){NULL, 0});
	response->type = request->openmetrics ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
					      : "text/plain; version=0.0.4; charset=utf-8";
	response_header(response, "Vary", "Accept");
	print_counters(response, request->openmetrics);
	print_refusals(response, request->openmetrics);
	print_problems(response, request->openmetrics);
	print_latency(response, request->openmetrics);
	print_readiness(request, response);
	print_fleet(response, request->openmetrics, rows);
	if (request->openmetrics)
		response_text(response, "# EOF\n");
	PQclear(rows);
}
