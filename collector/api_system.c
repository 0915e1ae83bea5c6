/* The collector itself: its health, and the files it carries. */
#include <string.h>

#include "collector/assets.h"
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
