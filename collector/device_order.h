/*
 * Lists of devices that go along one index: those in an order, and those that a filter narrows which an index has in the order of enrolment. Each has
 * statements of its own, up and down, whose plans are made once; what else is asked for is device_list()'s, see 024_lists.sql.
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

/* NARROW(symbol, "name", "from", "what is in order", "condition on $1", "what the index has before the device", "and its value"): in the order of enrolment.
   ALL is of no filter. */
#define DEVICE_NARROWS(NARROW) \
	NARROW(ALL, "all", "device d", "d", "$1::text IS NULL", "", "") \
	NARROW(POSTURE, "posture", "device d", "d", "posture_rank(d.posture) = posture_rank($1::text)", "posture_rank(d.posture), ", "posture_rank($1::text), ") \
	NARROW(LIFECYCLE, "lifecycle", "device d", "d", "d.lifecycle = $1::text AND d.lifecycle <> 'active'", "d.lifecycle, ", "$1::text, ") \
	NARROW(MODEL, "model", "device d", "d", "list_key(d.hwmodel) COLLATE \"C\" = $1::text", "list_key(d.hwmodel) COLLATE \"C\", ", "$1::text, ") \
	NARROW(FIRMWARE, "firmware", "device d", "d", "list_key(d.swversion) COLLATE \"C\" = $1::text", "list_key(d.swversion) COLLATE \"C\", ", "$1::text, ") \
	NARROW(POLICY, "policy", \
		"device_violation v JOIN LATERAL (SELECT * FROM device d WHERE d.device_id = v.device_id AND d.tenant_id = v.tenant_id OFFSET 0) d ON true", "v", \
		"v." TENANT " AND v.policy = $1::text AND EXISTS (SELECT FROM policy p WHERE p.id = $1::text AND p.deleted_at IS NULL AND p.slot IS NOT NULL)", \
		"v.policy, ", "$1::text, ") \
	NARROW(LABEL, "label", \
		"device_mark m JOIN LATERAL (SELECT * FROM device d WHERE d.device_id = m.device_id AND d.tenant_id = m.tenant_id OFFSET 0) d ON true", "m", \
		"m." TENANT " AND m.mark = (SELECT regexp_replace($1::text, ':', '='))", "m.mark, ", "(SELECT regexp_replace($1::text, ':', '=')), ")
/* clang-format on */

#endif
