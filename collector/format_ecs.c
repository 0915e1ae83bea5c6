#include "collector/format_ecs.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "collector/event_kind.h"
#include "collector/format_native.h"
#include "collector/words.h"

/* What somebody wanted, and did not get. */
static const char *const failures[] = {"device.refused", "device.event.login-failed", "device.event.privilege-refused",
				       "challenge.unanswered"};

static const char *
outcome_of(const struct event *e)
{
	for (size_t i = 0; i < sizeof failures / sizeof *failures; i++)
		if (word_is(e->type, failures[i]))
			return "failure";
	return NULL;
}

static json_t *
text_of(const struct draft *d)
{
	return d->failed ? NULL : json_stringn(d->at, d->len);
}

static json_t *
event_fields(const struct event *e)
{
	const struct event_kind *kind = event_kind(e->type);
	struct draft reasons = {0}, original = {0};
	char id[24];
	json_t *json;

	event_reasons(e, &reasons);
	format_native(&original, e);
	snprintf(id, sizeof id, "%" PRId64, e->id);
	json = json_pack("{s:s, s:o, s:o, s:s%, s:s, s:I, s:i, s:s, s:s, s:s*, s:o*, s:o}", "kind", kind->ecs_kind,
			 "category", words_array(kind->ecs_categories), "type", words_array(kind->ecs_types), "action",
			 (const char *)e->type.at, e->type.len, "id", id, "sequence", (json_int_t)e->position,
			 "severity", (int)e->severity, "module", "fleetstate", "dataset", "fleetstate.events",
			 "outcome", outcome_of(e), "reason", reasons.len == 0 ? NULL : text_of(&reasons), "original",
			 text_of(&original));
	draft_free(&reasons);
	draft_free(&original);
	return json;
}

static json_t *
rule_fields(const struct event *e)
{
	const char *policy = json_string_value(json_object_get(e->fields, "policy"));

	return policy == NULL ? NULL
			      : json_pack("{s:s, s:s*, s:s*}", "id", policy, "name",
					  json_string_value(json_object_get(e->fields, "title")), "category",
					  json_string_value(json_object_get(e->fields, "element")));
}

void
format_ecs(struct draft *d, const struct event *e)
{
	const char *actor = event_actor(e);
	char time[EVENT_TIME_SIZE];
	struct draft message = {0}, ueid = {0};
	json_t *json;

	event_time(e->time_us, time);
	event_message(e, &message);
	draft_hex(&ueid, e->ueid);
	json = json_pack("{s:s, s:o, s:{s:s}, s:o, s:{s:s, s:s, s:s}, s:{s:s%}, s:o*, s:o*, s:o*, s:o*}", "@timestamp",
			 time, "message", text_of(&message), "ecs", "version", "9.4.0", "event", event_fields(e),
			 "observer", "vendor", "fleetstate", "product", "fleetstate", "version", FLEETSTATE_VERSION,
			 "organization", "id", (const char *)e->tenant.at, e->tenant.len, "host",
			 ueid.len == 0 ? NULL : json_pack("{s:o}", "id", text_of(&ueid)), "device",
			 ueid.len == 0 ? NULL : json_pack("{s:o}", "id", text_of(&ueid)), "rule", rule_fields(e),
			 "user", actor == NULL ? NULL : json_pack("{s:s}", "name", actor));
	draft_free(&message);
	draft_free(&ueid);
	draft_json(d, json);
}
