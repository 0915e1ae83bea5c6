#include "collector/format_ocsf.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "collector/event_kind.h"
#include "collector/format_native.h"

#define IOT 7 /* device.type_id */
#define STANDARD "NISTIR 8259"

static const struct {
	int uid, category;
	const char *name;
} classes[] = {
	[OCSF_CHANGE] = {5019, 5, "Device Config State Change"},
	[OCSF_COMPLIANCE] = {2003, 2, "Compliance Finding"},
	[OCSF_DETECTION] = {2004, 2, "Detection Finding"},
	[OCSF_ENTITY] = {3004, 3, "Entity Management"},
};

static const char *const severities[SEVERITIES] = {"Informational", "Low", "Medium", "High", "Critical"};

/* A word of ours, and a number of theirs. */
struct word {
	const char *word;
	int id;
};

/* activity_id of 3004: what the member says that event_kinds.def names. */
static const struct word activities[] = {
	{"created", 1},  {"changed", 3}, {"deleted", 4},     {"struck-out", 9}, {"POST", 1},
	{"PUT", 3},      {"PATCH", 3},   {"DELETE", 4},      {"pending", 6},    {"active", 10},
	{"retired", 11}, {"revoked", 9}, {"transferred", 5}, {"held", 3},       {"released", 3},
};
/* security_level_id; what is silent or not known is 0. */
static const struct word levels[] = {{"operational", 1}, {"degraded", 2}, {"untrusted", 3}};
/* status_id of a finding, by an alert's state. */
static const struct word states[] = {{"open", 1}, {"acknowledged", 2}, {"silenced", 3}, {"resolved", 4}};

static const char *
member(const struct event *e, const char *name)
{
	return json_string_value(json_object_get(e->fields, name));
}

static int
find(const struct word *words, size_t n, const char *word, int otherwise)
{
	for (size_t i = 0; word != NULL && i < n; i++)
		if (strcmp(words[i].word, word) == 0)
			return words[i].id;
	return otherwise;
}
#define FIND(words, word, otherwise) find(words, sizeof words / sizeof *words, word, otherwise)

static json_t *
text_of(struct draft *d)
{
	json_t *text = d->failed ? NULL : json_stringn(d->at, d->len);

	draft_free(d);
	return text;
}

static json_t *
metadata(const struct event *e)
{
	char id[24];

	snprintf(id, sizeof id, "%" PRId64, e->id);
	return json_pack("{s:s, s:{s:s, s:s, s:s}, s:s, s:s%, s:I, s:s%, s:o*}", "version", "1.8.0", "product", "name",
			 "fleetstate", "vendor_name", "fleetstate", "version", FLEETSTATE_VERSION, "uid", id,
			 "event_code", (const char *)e->type.at, e->type.len, "sequence", (json_int_t)e->position,
			 "tenant_uid", (const char *)e->tenant.at, e->tenant.len, "is_truncated",
			 e->truncated ? json_true() : NULL);
}

static json_t *
device(const struct event *e)
{
	struct draft ueid = {0};

	draft_hex(&ueid, e->ueid);
	return json_pack("{s:i, s:s, s:o}", "type_id", IOT, "type", "IOT", "uid", text_of(&ueid));
}

/* What every class has. */
static json_t *
base(const struct event *e, enum ocsf_class class, int activity)
{
	struct draft message = {0}, raw = {0};

	event_message(e, &message);
	format_native(&raw, e);
	return json_pack("{s:i, s:s, s:i, s:i, s:i, s:i, s:s, s:I, s:o, s:o, s:o}", "class_uid", classes[class].uid,
			 "class_name", classes[class].name, "category_uid", classes[class].category, "activity_id",
			 activity, "type_uid", classes[class].uid * 100 + activity, "severity_id", (int)e->severity + 1,
			 "severity", severities[e->severity], "time", (json_int_t)(e->time_us / 1000), "metadata",
			 metadata(e), "message", text_of(&message), "raw_data", text_of(&raw));
}

static void
add_change(json_t *json, const struct event *e)
{
	const char *posture = member(e, "posture"), *before = member(e, "previous");

	json_object_set_new(json, "device", device(e));
	if (posture != NULL)
		json_object_set_new(json, "security_level_id", json_integer(FIND(levels, posture, 0)));
	if (posture != NULL && before != NULL)
		json_object_set_new(json, "prev_security_level_id", json_integer(FIND(levels, before, 0)));
}

static void
add_finding(json_t *json, const struct event *e, const char *uid, const char *title)
{
	const char *policy = member(e, "policy"), *name = member(e, "title");
	json_t *rule = NULL;

	/* analytic.type_id 1: a rule. */
	if (policy != NULL)
		rule = json_pack("{s:i, s:s, s:s*}", "type_id", 1, "uid", policy, "name", name);
	json_object_set_new(
		json, "finding_info",
		json_pack("{s:s, s:s, s:o*}", "uid", uid, "title", name != NULL ? name : title, "analytic", rule));
	if (e->ueid.at != NULL)
		json_object_set_new(json, "device", device(e));
}

/* compliance.status_id: 1 pass, 3 fail. */
static void
add_compliance(json_t *json, const struct event *e, const struct event_kind *kind, int activity)
{
	const char *element = member(e, "element");
	bool closed = activity == 3;
	json_t *compliance;
	char uid[24];

	snprintf(uid, sizeof uid, "%" JSON_INTEGER_FORMAT, json_integer_value(json_object_get(e->fields, "alert")));
	add_finding(json, e, uid, kind->title);
	compliance =
		json_pack("{s:i, s:s, s:s*, s:o*}", "status_id", closed ? 1 : 3, "status", closed ? "Pass" : "Fail",
			  "control", element, "standards", element == NULL ? NULL : json_pack("[s]", STANDARD));
	json_object_set_new(json, "compliance", compliance);
	json_object_set_new(json, "status_id", json_integer(FIND(states, member(e, "state"), closed ? 4 : 1)));
}

static void
add_detection(json_t *json, const struct event *e, const struct event_kind *kind)
{
	char uid[24];

	snprintf(uid, sizeof uid, "%" PRId64, e->id);
	add_finding(json, e, uid, kind->title);
	json_object_set_new(json, "status_id", json_integer(1));
	json_object_set_new(json, "is_alert", json_boolean(strcmp(kind->ecs_kind, "alert") == 0));
}

/* What was managed: the device, else what the event names. managed_entity.type_id: 1 a device, 5 a policy, 99 other. */
static void
add_entity(json_t *json, const struct event *e)
{
	static const struct {
		const char *member, *type;
		int type_id;
	} things[] = {{"policy", "Policy", 5},
		      {"maintenance", "Maintenance window", 99},
		      {"target", "Resource", 99},
		      {"number", "Checkpoint", 99}};
	const char *type = "Event";
	json_t *uid = NULL;
	int type_id = 99;

	if (e->ueid.at != NULL) {
		struct draft ueid = {0};

		draft_hex(&ueid, e->ueid);
		type = "Device";
		type_id = 1;
		uid = text_of(&ueid);
	}
	for (size_t i = 0; uid == NULL && i < sizeof things / sizeof *things; i++) {
		json_t *value = json_object_get(e->fields, things[i].member);

		if (value == NULL)
			continue;
		type = things[i].type;
		type_id = things[i].type_id;
		uid = json_is_string(value) ? json_incref(value)
					    : json_sprintf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
	}
	if (uid == NULL)
		uid = json_sprintf("%" PRId64, e->id);
	json_object_set_new(json, "entity", json_pack("{s:i, s:s, s:o}", "type_id", type_id, "type", type, "uid", uid));
}

static void
add_rest(json_t *json, const struct event *e)
{
	const char *actor = event_actor(e);
	struct draft reasons = {0};

	event_reasons(e, &reasons);
	if (reasons.len > 0)
		json_object_set_new(json, "status_detail", text_of(&reasons));
	draft_free(&reasons);
	if (actor != NULL)
		json_object_set_new(json, "actor", json_pack("{s:{s:s}}", "user", "name", actor));
}

void
format_ocsf(struct draft *d, const struct event *e)
{
	const struct event_kind *kind = event_kind(e->type);
	bool deviceless = kind->class == OCSF_CHANGE && e->ueid.at == NULL;
	enum ocsf_class class = deviceless ? OCSF_ENTITY : kind->class;
	int activity = deviceless ? 3 : kind->activity;
	json_t *json;

	if (kind->member[0] != '\0')
		activity = FIND(activities, member(e, kind->member), activity);
	json = base(e, class, activity);
	switch (class) {
	case OCSF_CHANGE:
		add_change(json, e);
		break;
	case OCSF_COMPLIANCE:
		add_compliance(json, e, kind, activity);
		break;
	case OCSF_DETECTION:
		add_detection(json, e, kind);
		break;
	case OCSF_ENTITY:
		add_entity(json, e);
		break;
	}
	add_rest(json, e);
	draft_json(d, json);
}
