/*
 * Lists of devices that have statements of their own, up and down, whose plans are made once. Those that go along one index: all of them in an order, or in the
 * order of enrolment narrowed by a filter that an index has so. And those of one filter in that order that are found near the place where the page begins, as
 * long as many devices match. What else is asked for is device_list()'s, see 024_lists.sql.
 */
#ifndef FLEETSTATE_COLLECTOR_DEVICE_ORDER_H
#define FLEETSTATE_COLLECTOR_DEVICE_ORDER_H

/* clang-format off */
/* ORDER(symbol, "name", "key", "its type", "a key before all", "one behind all", "column that says when a device moved in this order", "the latest such"),
   as device_list() has them. */
#define DEVICE_MOVED_LAST(key) "(SELECT max(" key ") FROM device d WHERE d." TENANT ")"
#define DEVICE_ORDERS(ORDER) \
	ORDER(UEID, "ueid", "d.ueid", "bytea", "''", "decode(repeat('ff', 18), 'hex')", "NULL::timestamptz", "NULL::timestamptz") \
	ORDER(SERIAL, "serial", "list_key(d.serial) COLLATE \"C\"", "text", "''", DEVICE_TEXT_LAST, "d.described_at", DEVICE_MOVED_LAST("d.described_at")) \
	ORDER(MODEL, "model", "list_key(d.hwmodel) COLLATE \"C\"", "text", "''", DEVICE_TEXT_LAST, "d.described_at", DEVICE_MOVED_LAST("d.described_at")) \
	ORDER(FIRMWARE, "firmware", "list_key(d.swversion) COLLATE \"C\"", "text", "''", DEVICE_TEXT_LAST, "d.described_at", \
		DEVICE_MOVED_LAST("d.described_at")) \
	ORDER(POSTURE, "posture", "posture_rank(d.posture)", "int", "0", "9", "d.posture_since", DEVICE_MOVED_LAST("d.posture_since")) \
	ORDER(POSTURE_SINCE, "posture_since", "d.posture_since", "timestamptz", "'-infinity'", "'infinity'", "d.posture_since", \
		DEVICE_MOVED_LAST("d.posture_since")) \
	ORDER(FIRST_SEEN, "first_seen", "list_key(d.first_seen)", "timestamptz", "'-infinity'", "'infinity'", "d.first_seen", \
		"(SELECT list_key(d.first_seen) FROM device d WHERE d." TENANT " AND list_key(d.first_seen) <" \
		" 'infinity' ORDER BY list_key(d.first_seen) DESC LIMIT 1)")
/* No text of a device is behind it: there is no greater character, and more of them than a text has bytes. */
#define DEVICE_TEXT_LAST "repeat(chr(1114111), 1025)"

/* What a list's statement takes of a device before it shows it. */
#define DEVICE_OWN "d.device_id, d.tenant_id, d.ueid, d.card"

/* NARROW(symbol, "name", "from", "what is in order", "condition on $1"): in the order of enrolment. ALL is of no filter. */
#define DEVICE_NARROWS(NARROW) \
	NARROW(ALL, "all", "device d", "d", "$1::text IS NULL") \
	NARROW(POSTURE, "posture", "device d", "d", "posture_rank(d.posture) = posture_rank($1::text)") \
	NARROW(LIFECYCLE, "lifecycle", "device d", "d", "d.lifecycle = $1::text AND d.lifecycle <> 'active'") \
	NARROW(MODEL, "model", "device d", "d", "list_key(d.hwmodel) COLLATE \"C\" = $1::text") \
	NARROW(FIRMWARE, "firmware", "device d", "d", "list_key(d.swversion) COLLATE \"C\" = $1::text") \
	NARROW(POLICY, "policy", \
		"device_violation v JOIN LATERAL (SELECT " DEVICE_OWN " FROM device d WHERE d.device_id = v.device_id OFFSET 0) d ON true", "v", \
		"v.policy = $1::text AND (SELECT policy_judges($1::text))") \
	NARROW(LABEL, "label", \
		"device_mark m JOIN LATERAL (SELECT " DEVICE_OWN " FROM device d WHERE d.device_id = m.device_id OFFSET 0) d ON true", "m", \
		"m.mark = (SELECT regexp_replace($1::text, ':', '='))")

/* NEAR(symbol, "filter", "where it looks", "what is in order", "condition"): behind a place it looks at some times as many devices as a page has, or at some of
   each inventory; what it finds are the first that match, or too few for the page. What is named as no filter is asked next. */
#define NEAR_DEVICES(sign, edge, way) "(SELECT " DEVICE_OWN " FROM device d WHERE " NEAR_PLACE("d", sign, edge) " ORDER BY d.device_id" way " LIMIT 4 * $2::int8) "
#define NEAR_PLACE(of, sign, edge) of "." TENANT " AND " of ".device_id " sign " " DEVICE_AT(edge)
/* Where devices stand in their reports, for what that says of them: more of them, as they are small. */
#define NEAR_HOT(sign, edge, way) \
	"(SELECT h.device_id, h.last_seen, h.epoch, h.hi, h.interval_s, h.state_digest, h.inventory_digest FROM device_hot h WHERE " NEAR_PLACE("h", sign, edge) \
	" ORDER BY h.device_id" way " LIMIT 24 * $2::int8) h" NEAR_DEVICE("h")
#define NEAR_DEVICE(of) " JOIN LATERAL (SELECT " DEVICE_OWN " FROM device d WHERE d.device_id = " of ".device_id OFFSET 0) d ON true"
#define NEAR_NAMED(version) "ARRAY(SELECT c.component_id FROM component c WHERE c." TENANT " AND c.name = " version ")"
#define NEAR_LISTED "$1::text::int8[]"
#define NEAR_HAS(components) "(h.inventory_digest IN (SELECT unnest(component_sets(" components ")))) IS TRUE"
/* Of each inventory, whose devices are in order, a little more than its share: they are whole up to where the first of them is left. */
#define NEAR_SHARES(components, sign, edge, way, within, first, last) \
	"(WITH x AS MATERIALIZED (SELECT r.part, ARRAY(SELECT s.device_id FROM device_state s WHERE s." TENANT " AND s.inventory_digest = i.digest" \
	"  AND s.device_id " sign " " DEVICE_AT(edge) " ORDER BY s.device_id" way " LIMIT r.part) AS ids" \
	"  FROM (SELECT a.digests, (2 * $2::int8 / greatest(cardinality(a.digests), 1) + 6)::int AS part FROM (SELECT component_sets(" components ") AS digests OFFSET 0) a OFFSET 0) r," \
	"  unnest(r.digests) i (digest) WHERE cardinality(r.digests) <= 100)" \
	" SELECT y.device_id FROM (SELECT unnest(x.ids) AS device_id FROM x) y WHERE y.device_id " within " coalesce((SELECT " first "(x.ids[x.part]) FROM x), " last ")" \
	" ORDER BY y.device_id" way " LIMIT $2::int8) w" NEAR_DEVICE("w") DEVICE_HOT
#define DEVICE_NEARS(NEAR, sign, edge, way, within, first, last) \
	NEAR(WHERE, "where", NEAR_DEVICES(sign, edge, way) "d JOIN LATERAL (SELECT FROM device_state s WHERE s.device_id = d.device_id" \
		" AND jsonb_path_match(s.state, (SELECT CASE WHEN f.fault IS NULL THEN $1::text::jsonpath END FROM predicate_fault($1::text) f), '{}', true) OFFSET 0) s ON true" \
		DEVICE_HOT, "d", "true") \
	NEAR(AS_OF, "as_of", NEAR_DEVICES(sign, edge, way) "w JOIN LATERAL (SELECT w.ueid, b.device_id, b.card FROM device_history b WHERE b.device_id = w.device_id" \
		" AND b.valid_from <= (SELECT $1::text::timestamptz) ORDER BY b.valid_from DESC, b.history_id DESC LIMIT 1) d ON true" \
		DEVICE_HOT_THEN("(SELECT $1::text::timestamptz)"), "w", "(SELECT history_reaches($1::text::timestamptz))") \
	NEAR(COMPONENT, "component", NEAR_HOT(sign, edge, way), "h", NEAR_HAS(NEAR_NAMED("$1::text"))) \
	NEAR(VERSION, "component_version", NEAR_SHARES(NEAR_NAMED("$1::text::jsonb ->> 'component' AND c.version = $1::text::jsonb ->> 'component_version'"), sign, edge, way, \
		within, first, last), "w", "true") \
	NEAR(COMPONENTS, "components", NEAR_HOT(sign, edge, way), "h", NEAR_HAS(NEAR_LISTED)) \
	NEAR(COMPONENTS_SHARED, "components_shared", NEAR_SHARES(NEAR_LISTED, sign, edge, way, within, first, last), "w", "true")
/* clang-format on */

#endif
