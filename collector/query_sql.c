#include "collector/query_sql.h"

#include "collector/format_device.h"

/* The tenant as the setting has it, its seal not looked at. Row-level security does that, for every table and view that is read by this, so whoever wrote
   the setting himself sees nothing; and he could have written the statement as well. NULL: there is none. */
#define MINE "nullif(split_part(current_setting('fleetstate.context', true), E'\\n', 2), '')::int"
/* The tenant is named in every statement, for the index; row-level security says the same once more, for safety. */
#define TENANT "tenant_id = (SELECT " MINE ")"
/* Looked up before any row is, for what is found by an index that does not begin with the tenant: another tenant's takes no longer than one that is not
   there. The tenant is compared before row-level security has its own looked up. */
#define MINE_FIRST "(SELECT " MINE " AS tenant_id OFFSET 0) mine"
/* A report's signed bytes. It is looked at once, and only where there are any: who may not have them learns no more than that. */
#define EVIDENCE "CASE WHEN (SELECT evidence_allowed()) THEN message END"

/* clang-format off */
/* What a device's row has beside its key: whether it is there, and the columns. */
#define DEVICE_CELLS "d.device_id, " DEVICE_SQL
#define DEVICES(of) \
	"SELECT v.device_id, l.device_id, (extract(epoch FROM l.since) * 1000000)::int8, l.key, v.*" \
	" FROM device_list($1::text::jsonb, $2::text, ($3::int8 - 1)::int, $6::text, CASE WHEN $5::int8 <> 0 THEN $4::int8 END," \
	" CASE WHEN $5::int8 <> 0 THEN 'epoch'::timestamptz + $5::int8 * interval '1 us' END) l LEFT JOIN LATERAL (SELECT " DEVICE_CELLS of " OFFSET 0) v ON l.shown"
/* Where a device stands in its reports: one look-up a device. OFFSET keeps the planner from walking the tables side by side, other tenants' rows and all. */
#define DEVICE_HOT \
	" LEFT JOIN LATERAL (SELECT h.last_seen, h.epoch, h.hi, h.interval_s, h.state_digest, h.inventory_digest FROM device_hot h" \
	" WHERE h.device_id = d.device_id OFFSET 0) h ON true"
#define DEVICE_FOUND " FROM device d" DEVICE_HOT
/* With the set that it runs, if that is here. By where it stands, since what it said last has no index for one device with the digest alone. */
#define DEVICE_SETS DEVICE_FOUND " LEFT JOIN inventory i ON i.tenant_id = d.tenant_id AND i.digest = h.inventory_digest"
#define DEVICE_SET DEVICE_SETS " WHERE d.ueid = $1::bytea AND d." TENANT
/* Of two devices: the sets that they have, and what is in one of these or in both. */
#define DIFF_SETS \
	"WITH d AS (SELECT d.ueid = $1::bytea AS first, i.inventory_id, json_build_object('ueid', encode(d.ueid, 'hex'), 'digest'," \
	" encode(h.inventory_digest, 'hex'), 'components', i.components) AS head" DEVICE_SETS \
	" WHERE d.ueid IN ($1::bytea, $2::bytea) AND d." TENANT ")," \
	" x AS (SELECT ic.component_id, bool_and(d.first) AS first, count(*) AS n FROM d JOIN inventory_component ic USING (inventory_id) GROUP BY 1)"
#define DIFF_ORDER(of) of ".name COLLATE \"C\", " of ".type COLLATE \"C\", coalesce(' ' || " of ".architecture, '') COLLATE \"C\""
/* Where a device stood in its reports then is what its state came with. */
#define DEVICE_HOT_THEN(as_of) \
	" LEFT JOIN LATERAL (SELECT b.valid_from AS last_seen, b.epoch, b.seq AS hi, 0 AS interval_s, b.state_digest, b.inventory_digest FROM state_history b" \
	"  WHERE b.device_id = d.device_id AND b.valid_from <= " as_of \
	"  ORDER BY b.valid_from DESC, b.epoch DESC, b.seq DESC LIMIT 1) h ON true"
/* What a device was then, in the places of what it is. */
#define DEVICE_THEN \
	" FROM (SELECT w.ueid, b.* FROM device w, LATERAL (SELECT * FROM device_history b WHERE b.device_id = w.device_id AND b.tenant_id = w.tenant_id" \
	"  AND b.valid_from <= (SELECT ($1::text::jsonb ->> 'as_of')::timestamptz) ORDER BY b.valid_from DESC, b.history_id DESC LIMIT 1) b" \
	"  WHERE w.device_id = l.device_id AND w." TENANT ") d" DEVICE_HOT_THEN("(SELECT ($1::text::jsonb ->> 'as_of')::timestamptz)")

/* Along an index. Parameters: the filter's value, limit + 1, and the place as above. A row without its first column is of a device that has moved since
   the first page, and is told no more. */
#define DEVICES_ALONG(from, in_order, since, key, stays, where, place, order) \
	"SELECT CASE WHEN " stays " THEN d.device_id END, d.device_id, " since ", " key ", " DEVICE_SQL \
	" FROM " from \
	DEVICE_HOT \
	" WHERE " in_order "." TENANT " AND " where " AND " place " ORDER BY " order " LIMIT $2::int8"
#define DEVICE_AT(edge) "CASE WHEN $4::int8 <> 0 THEN $3::int8 ELSE " edge " END"
#define DEVICE_FIRST "0"
#define DEVICE_LAST "9223372036854775807"
#define SINCE(latest) \
	"(SELECT CASE WHEN $4::int8 <> 0 THEN $4::int8 ELSE greatest((extract(epoch FROM " latest ") * 1000000)::int8, 1) END)"
#define STAYS(moved) "($4::int8 = 0 OR coalesce(" moved ", '-infinity') <= (SELECT 'epoch'::timestamptz + $4::int8 * interval '1 us'))"
#define ORDER_ONE(query, name, key, type, moved, latest, sign, edge, edge_id, way) \
	[query] = {name, DEVICES_ALONG("device d", "d", SINCE(latest), key, STAYS(moved), "$1::text IS NULL", \
		"(" key ", d.device_id) " sign " ((SELECT coalesce($5::text::" type ", " edge ")), " DEVICE_AT(edge_id) ")", key way ", d.device_id" way), 5},
#define ORDER_BOTH(symbol, name, key, type, least, last, moved, latest) \
	ORDER_ONE(QUERY_DEVICES_BY_##symbol, "devices_by_" name, key, type, moved, latest, ">", least, DEVICE_FIRST, "") \
	ORDER_ONE(QUERY_DEVICES_BY_##symbol##_DOWN, "devices_by_" name "_down", key, type, moved, latest, "<", last, DEVICE_LAST, " DESC")
#define NARROW_ONE(query, name, from, in_order, condition, sign, edge_id, way) \
	[query] = {name, DEVICES_ALONG(from, in_order, "1::int8", "NULL::text", "true", condition " AND $5::text IS NOT DISTINCT FROM $5", \
		in_order ".device_id " sign " " DEVICE_AT(edge_id), in_order ".device_id" way), 5},
#define NARROW_BOTH(symbol, name, from, in_order, condition) \
	NARROW_ONE(QUERY_DEVICES_OF_##symbol, "devices_of_" name, from, in_order, condition, ">", DEVICE_FIRST, "") \
	NARROW_ONE(QUERY_DEVICES_OF_##symbol##_DOWN, "devices_of_" name "_down", from, in_order, condition, "<", DEVICE_LAST, " DESC")

/* Near the place where the page begins, in the order of enrolment. Parameters and rows as above. */
#define NEAR_ONE(query, name, from, in_order, condition, way) \
	[query] = {name, "SELECT d.device_id, d.device_id, 1::int8, NULL::text, " DEVICE_SQL " FROM " from \
		" WHERE $5::text IS NOT DISTINCT FROM $5 AND " condition " ORDER BY " in_order ".device_id" way " LIMIT $2::int8", 5},
#define NEAR_UP(symbol, name, from, in_order, condition) NEAR_ONE(QUERY_DEVICES_NEAR_##symbol, "devices_near_" name, from, in_order, condition, "")
#define NEAR_DOWN(symbol, name, from, in_order, condition) \
	NEAR_ONE(QUERY_DEVICES_NEAR_##symbol##_DOWN, "devices_near_" name "_down", from, in_order, condition, " DESC")

/* As near a place, of what has a text: the whole page, or one row without a place, which says that it can't be told so. In order before the devices are looked
   up, which keeps it: the sort is of numbers then, not of rows. */
#define SEARCH(edge, way) \
	"SELECT d.device_id, w.device_id, 1::int8, NULL::text, " DEVICE_SQL " FROM (SELECT i.id FROM unnest(coalesce(" \
	"device_search($1::text, '" way "' <> '', " DEVICE_AT(edge) ", $2::int8::int - 1), '{NULL}')) i (id) ORDER BY i.id" way " LIMIT $2::int8)" \
	" w (device_id) LEFT JOIN LATERAL (SELECT " DEVICE_OWN " FROM device d WHERE d.device_id = w.device_id OFFSET 0) d ON d." TENANT DEVICE_HOT \
	" WHERE $5::text IS NOT DISTINCT FROM $5 ORDER BY w.device_id" way

/* Of all devices, in the order of when they were heard that was made, as many as the page takes or too few; rows as above. */
#define HEARD(falling) \
	"SELECT d.device_id, d.device_id, (extract(epoch FROM d.since) * 1000000)::int8, d.at, " DEVICE_SQL " FROM heard_page(" falling \
	", $5::text::timestamptz, $3::int8, CASE WHEN $4::int8 <> 0 THEN 'epoch'::timestamptz + $4::int8 * interval '1 us' END, $2::int8::int)" \
	" WITH ORDINALITY d (device_id, at, since, ueid, card, n)" DEVICE_HOT " WHERE $1::text IS NULL ORDER BY d.n LIMIT $2::int8"

#define COMPONENT_MEMBERS \
	"'id', c.component_id, 'type', c.type, 'name', c.name, 'version', c.version, 'architecture', c.architecture, 'source', c.source," \
	" 'source_version', c.source_version, 'purl', c.purl"
/* Devices that have it now, of which no more are counted than a list can afford. */
#define COMPONENT_DEVICES(most) \
	"(SELECT count(*) FROM (SELECT FROM inventory_component ic JOIN inventory i ON i.inventory_id = ic.inventory_id" \
	" JOIN device_state s ON s.tenant_id = i.tenant_id AND s.inventory_digest = i.digest WHERE ic.component_id = c.component_id" most ") x)"
/* What the package URL says; what it leaves open may be any: the version, and each qualifier. */
#define COMPONENT_PURL \
	"($2::text IS NULL OR ((split_part(c.purl, '?', 1) = split_part($2, '?', 1)" \
	" OR (strpos($2, '@') = 0 AND split_part(split_part(c.purl, '?', 1), '@', 1) = split_part($2, '?', 1)))" \
	" AND string_to_array(split_part($2, '?', 2), '&') <@ string_to_array(split_part(c.purl, '?', 2), '&')))"
/* Parameters: name, purl, type, version, list, limit, after. One statement a leading filter, so that each has the plan of its own index. */
#define COMPONENTS(lead, devices) \
	"SELECT json_strip_nulls(json_build_object(" COMPONENT_MEMBERS devices "))::text, c.component_id FROM component c" \
	" WHERE c." TENANT " AND " lead " AND ($1::text IS NULL OR c.name = $1) AND " COMPONENT_PURL \
	" AND ($3::text IS NULL OR c.type = $3) AND ($4::text IS NULL OR c.version = $4)" \
	" AND ($5::text IS NULL OR c.component_id = ANY ($5::int8[])) AND c.component_id > $7::int8 ORDER BY c.component_id LIMIT $6::int8"
#define COMPONENT_COUNTED ", 'devices', " COMPONENT_DEVICES(" LIMIT 1000")

/* How many active devices have which, the most first. */
#define TALLY(kind) \
	"(SELECT coalesce(json_object_agg(value, n), '{}') FROM (SELECT value, sum(n)::int8 AS n FROM fleet_tally WHERE " TENANT \
	" AND kind = '" kind "' GROUP BY 1 HAVING sum(n) > 0 ORDER BY 2 DESC, 1 LIMIT 1000) x)"
/* clang-format on */

#define REPORT_ITEM                                                                                                    \
	"json_build_object('epoch', epoch_hex(epoch), 'seq', seq, 'issued_at', rfc3339(issued_at), 'received_at', "    \
	"rfc3339(received_at), 'sha256', encode(sha256, 'hex'), 'sections', section_names(sections), 'size', "         \
	"octet_length(message), 'flags', flag_names(flags))::text"

#define EVENT_WINDOW "20000"

/* clang-format off */
/* Newest first. Parameters: states, severities, policy, ueid, model, since, group, limit, before (0: from the newest on). */
#define ALERTS(tenant, lead) \
	"SELECT item, alert_id FROM alert_item WHERE " tenant " " lead \
	" AND ($1::text IS NULL OR state = ANY (string_to_array($1, ','))) AND ($2::text IS NULL OR severity = ANY (string_to_array($2, ',')))" \
	" AND ($3::text IS NULL OR policy = $3) AND ($4::bytea IS NULL OR ueid = $4) AND ($5::text IS NULL OR hwmodel = $5)" \
	" AND ($6::text IS NULL OR opened_at >= $6::timestamptz) AND ($7::int8 IS NULL OR group_id = $7)" \
	" AND alert_id < CASE WHEN $9::int8 = 0 THEN 9223372036854775807 ELSE $9 END ORDER BY alert_id DESC LIMIT $8::int8"
/* The tenant's, and the system's own, each by its index. */
#define ALERTS_AND_SYSTEMS(lead) \
	"SELECT item, alert_id FROM ((" ALERTS(TENANT, lead) ") UNION ALL (" ALERTS("tenant_id = 0", lead) ")) x ORDER BY alert_id DESC LIMIT $8::int8"
#define ALERT_CHANGED "SELECT json_build_object('ids', ids, 'changed', cardinality(ids))::text, cardinality(ids)::int8"
/* clang-format on */

const struct statement query_statements[QUERIES] = {
	[QUERY_BEGIN] = {"begin", "BEGIN READ WRITE", 0},
	[QUERY_COMMIT] = {"commit", "COMMIT", 0},
	[QUERY_ROLLBACK] = {"rollback", "ROLLBACK", 0},
	[QUERY_SIGN_IN_OPERATOR] = {"sign_in_operator",
				    "SELECT tenant_id, role, scopes FROM sign_in_operator($1::bytea, $2::text)", 2},
	[QUERY_SIGN_IN] = {"sign_in", "SELECT tenant_id, role, scopes, tenant FROM sign_in($1::bytea, $2::text)", 2},
	[QUERY_REPEAT_CLAIM] = {"repeat_claim",
				"SELECT state, answer FROM repeat_claim($1::bytea, $2::bytea, $3::bytea)", 3},
	[QUERY_REPEAT_KEEP] = {"repeat_keep", "SELECT repeat_keep($1::bytea, $2::bytea, $3::bytea, $4::bytea)", 4},
	[QUERY_QUOTA] = {"quota", "SELECT token_id, requests, bytes, exports FROM caller_quota($1::bytea)", 1},
	[QUERY_CURSOR_SECRET] = {"cursor_secret", "SELECT read_cursor_secret()", 0},
	[QUERY_READY] = {"ready", "SELECT 1", 0},
	/* clang-format off */
	[QUERY_FLEET] = {"fleet",
		"WITH c AS (SELECT lifecycle, posture, sum(n)::int8 AS n FROM fleet_count WHERE " TENANT " GROUP BY 1, 2),"
		" active AS (SELECT * FROM c WHERE lifecycle = 'active')"
		" SELECT json_build_object('tenant', t.id, 'name', t.name, 'total', (SELECT coalesce(sum(n), 0)::int8 FROM active),"
		" 'posture', (SELECT json_object_agg(p, (SELECT coalesce(sum(n), 0)::int8 FROM active WHERE posture = p))"
		" FROM unnest('{untrusted,silent,degraded,unknown,operational}'::text[]) p),"
		" 'lifecycle', (SELECT json_object_agg(l, (SELECT coalesce(sum(n), 0)::int8 FROM c WHERE lifecycle = l))"
		" FROM unnest('{pending,active,retired,revoked,transferred}'::text[]) l),"
		" 'model', " TALLY("model") ", 'firmware', " TALLY("firmware") ", 'alerts', open_alerts())::text FROM tenant t WHERE t." TENANT, 0},
	/* Parameters: filters, sort, limit + 1, and the place: device, up to when the first page saw devices move (0: this is it), key. A row without its first
	   column says where to go on. The device's columns come last. */
	[QUERY_DEVICES] = {"devices", DEVICES(DEVICE_FOUND " WHERE d.device_id = l.device_id AND d." TENANT), 6},
	[QUERY_DEVICES_THEN] = {"devices_then", DEVICES(DEVICE_THEN), 6},
	/* clang-format on */
	/* clang-format off */
	/* The device's columns, its revision, and what of one alone is told: the last challenge, the ledger of all its epochs, and the hold it is on. */
	[QUERY_DEVICE] = {"device",
		"SELECT " DEVICE_CELLS ", d.revision, (SELECT c.item FROM challenge_item c WHERE c.device_id = d.device_id ORDER BY c.challenge_id DESC LIMIT 1),"
		" e.duplicates, e.late, e.forks, e.chain_breaks, (SELECT sum(upper(g.missing) - lower(g.missing))::int8 FROM report_gap g WHERE g.device_id = d.device_id),"
		" coalesce(hold_json('device', d.hold_since, d.hold_reason, d.hold_by),"
		"  (SELECT hold_json('tenant', t.hold_since, t.hold_reason, t.hold_by) FROM tenant t WHERE t.tenant_id = d.tenant_id))::text" DEVICE_FOUND
		" CROSS JOIN LATERAL (SELECT sum(x.duplicates)::int8 AS duplicates, sum(x.late)::int8 AS late, sum(x.forks)::int8 AS forks,"
		"  sum(x.chain_breaks)::int8 AS chain_breaks FROM device_epoch x WHERE x.device_id = d.device_id) e WHERE d.ueid = $1::bytea AND d." TENANT, 1},
	[QUERY_DEVICE_CHANGE] = {"device_change",
		"SELECT device_change($1::bytea, $2::text::jsonb, who_context(), $3::int8)::int::int8", 3},
	[QUERY_DEVICE_DELETE] = {"device_delete", "SELECT device_delete($1::bytea, who_context(), $2::int8)::int::int8", 2},
	[QUERY_DEVICES_IMPORT] = {"devices_import", "SELECT place::int8, member, fault FROM devices_import($1::text::jsonb, who_context(), $2::text::bool)", 2},
	[QUERY_DEVICE_ADD] = {"device_add", "SELECT device_add($1::text::jsonb, who_context(), $2::text::int8)::text", 2},
	[QUERY_REGISTRATIONS_LEFT] = {"registrations_left", "SELECT registrations_left($1::text::int8)", 1},
	/* clang-format on */
	[QUERY_STATE] = {"state",
			 "SELECT CASE WHEN s.device_id IS NOT NULL THEN json_build_object('ueid', encode(d.ueid, "
			 "'hex'), 'epoch', "
			 "epoch_hex(s.epoch), 'seq', s.seq, 'issued_at', rfc3339(s.issued_at), 'received_at', "
			 "rfc3339(s.received_at), "
			 "'state_digest', encode(s.state_digest, 'hex'), 'state', s.state)::text END "
			 "FROM device d LEFT JOIN device_state s ON s.device_id = d.device_id WHERE d.ueid = $1::bytea "
			 "AND d." TENANT,
			 1},
	/* clang-format off */
	[QUERY_INVENTORY_HEAD] = {"inventory_head",
		"SELECT CASE WHEN h.inventory_digest IS NOT NULL THEN json_build_object('ueid', encode(d.ueid, 'hex'), 'digest', encode(h.inventory_digest, 'hex'),"
		" 'complete', i.inventory_id IS NOT NULL, 'components', i.components)::text END" DEVICE_SET, 1},
	[QUERY_INVENTORY] = {"inventory",
		"SELECT json_strip_nulls(json_build_object('type', c.type, 'name', c.name, 'version', c.version, 'architecture', c.architecture, 'source', c.source,"
		" 'source_version', c.source_version, 'purl', c.purl))::text, c.component_id FROM inventory_component ic JOIN component c ON c.component_id = ic.component_id"
		" WHERE ic.inventory_id = (SELECT i.inventory_id" DEVICE_SET ") AND ic.component_id > $3::int8 ORDER BY ic.component_id LIMIT $2::int8", 3},
	[QUERY_INVENTORY_DEVICE] = {"inventory_device",
		"SELECT i.inventory_id, i.components::int8, (SELECT (extract(epoch FROM s.received_at) * 1000)::int8 FROM device_state s WHERE s.device_id = d.device_id), "
		DEVICE_CELLS DEVICE_SET, 1},
	/* So many of a set, behind one of them, in an order that has nothing to do with when a component was first heard of. */
	[QUERY_INVENTORY_PIECE] = {"inventory_piece",
		"SELECT c.type, c.name, c.version, c.architecture, c.source, c.source_version, c.purl, c.digest, c.component_id FROM (SELECT c.* FROM inventory_component ic"
		" JOIN component c ON c.component_id = ic.component_id WHERE ic.inventory_id = $1::int8 AND ic." TENANT " OFFSET 0) c"
		" WHERE $2::int8 = 0 OR (c.name COLLATE \"C\", c.version COLLATE \"C\", c.digest) >"
		" (SELECT p.name, p.version, p.digest FROM component p WHERE p.component_id = $2::int8)"
		" ORDER BY c.name COLLATE \"C\", c.version COLLATE \"C\", c.digest LIMIT $3::int8", 3},
	[QUERY_COMPONENT_VERSIONS] = {"component_versions",
		"SELECT component_id, type, version FROM component c WHERE c." TENANT " AND c.name = $1::text AND " COMPONENT_PURL " LIMIT $3::int8", 3},
	[QUERY_COMPONENTS] = {"components", COMPONENTS("true", ""), 7},
	[QUERY_COMPONENTS_NAME] = {"components_name", COMPONENTS("c.name = $1::text", COMPONENT_COUNTED), 7},
	[QUERY_COMPONENTS_LISTED] = {"components_listed", COMPONENTS("c.component_id = ANY ($5::text::int8[])", COMPONENT_COUNTED), 7},
	[QUERY_COMPONENT] = {"component",
		"SELECT json_strip_nulls(json_build_object(" COMPONENT_MEMBERS ", 'devices', " COMPONENT_DEVICES("") "))::text FROM component c"
		" WHERE c.component_id = $1::int8 AND c." TENANT, 1},
	[QUERY_COMPONENT_EXISTS] = {"component_exists", "SELECT 1 FROM component WHERE component_id = $1::int8 AND " TENANT, 1},
	/* How many of the two devices there are, and how many told their inventory. */
	[QUERY_DIFF_HEAD] = {"diff_head", DIFF_SETS
		" SELECT json_build_object('a', (SELECT head FROM d WHERE first), 'b', (SELECT head FROM d WHERE NOT first), 'same',"
		" (SELECT count(*) FROM x WHERE n = 2))::text, (SELECT count(*) FROM d), (SELECT count(inventory_id) FROM d)", 2},
	/* What differs: by name, type and architecture, since two versions of one thing have those in common; behind a component of the item before. No more
	   bytes than $3 and two items. */
	[QUERY_DIFF] = {"diff", DIFF_SETS
		", i AS (SELECT c.type, c.name, c.architecture, json_agg(c.version ORDER BY c.version) FILTER (WHERE x.first) AS a,"
		" json_agg(c.version ORDER BY c.version) FILTER (WHERE NOT x.first) AS b, min(x.component_id) AS at FROM x, LATERAL"
		" (SELECT p.type, p.name, p.architecture, p.version FROM component p WHERE p.component_id = x.component_id OFFSET 0) c WHERE x.n = 1 GROUP BY 1, 2, 3),"
		" p AS (SELECT json_strip_nulls(json_build_object('type', type, 'name', name, 'architecture', architecture, 'a', a, 'b', b))::text AS item, at,"
		" row_number() OVER (ORDER BY " DIFF_ORDER("i") ") AS n FROM i WHERE $5::int8 = 0 OR (" DIFF_ORDER("i") ") >"
		" (SELECT " DIFF_ORDER("c") " FROM component c WHERE c.component_id = $5::int8) ORDER BY n LIMIT $4::int8)"
		" SELECT item, at FROM (SELECT item, at, n, sum(octet_length(item)) OVER (ORDER BY n ROWS BETWEEN UNBOUNDED PRECEDING AND 2 PRECEDING) AS before FROM p) q"
		" WHERE before IS NULL OR before <= $3::int8 ORDER BY n", 5},
	/* clang-format on */
	[QUERY_LEDGER] =
		{"ledger",
		 "SELECT json_build_object('ueid', encode(d.ueid, 'hex'), 'epochs', coalesce((SELECT "
		 "json_agg(json_build_object("
		 "'epoch', epoch_hex(e.epoch), 'first_seen', rfc3339(e.first_seen), 'current', e.current, 'vouched', "
		 "e.vouched, "
		 "'received', ranges_json(int8multirange(int8range(1, e.top + 1)) - e.missing - e.dropped - "
		 "e.elsewhere), "
		 "'missing', ranges_json(e.missing), 'dropped', ranges_json(e.dropped), 'duplicates', e.duplicates, "
		 "'late', e.late, "
		 "'forks', e.forks, 'chain_breaks', e.chain_breaks, 'expired', e.expired) ORDER BY e.first_seen DESC, "
		 "e.epoch) FROM ("
		 "SELECT x.*, h.epoch IS NOT DISTINCT FROM x.epoch AND h.hi > 0 AS current, "
		 "CASE WHEN h.epoch = x.epoch THEN h.hi ELSE x.hi END AS top, "
		 "coalesce((SELECT range_agg(g.missing) FROM report_gap g WHERE g.device_id = d.device_id AND g.epoch "
		 "= x.epoch), '{}') "
		 "AS missing, "
		 "coalesce((SELECT range_agg(p.dropped) FROM report_drop p WHERE p.device_id = d.device_id AND p.epoch "
		 "= x.epoch AND p.cause NOT IN ('transferred', 'deleted')), '{}') AS dropped, "
		 "coalesce((SELECT range_agg(p.dropped) FROM report_drop p WHERE p.device_id = d.device_id AND p.epoch "
		 "= x.epoch AND p.cause IN ('transferred', 'deleted')), '{}') AS elsewhere, "
		 "(SELECT coalesce(sum(g.n), 0)::int8 FROM report_expired g WHERE g.device_id = d.device_id AND "
		 "g.epoch = x.epoch) "
		 "AS expired FROM device_epoch x LEFT JOIN device_hot h ON h.device_id = x.device_id WHERE x.device_id "
		 "= d.device_id "
		 "ORDER BY x.first_seen DESC LIMIT 100) e WHERE e.top = 0 OR NOT e.elsewhere @> int8range(1, e.top + 1)"
		 "), '[]'), "
		 "'refused', coalesce((SELECT json_object_agg(r.reason, r.n) FROM refusal_count r WHERE r.device_id = "
		 "d.device_id), "
		 "'{}'))::text FROM device d WHERE d.ueid = $1::bytea AND d." TENANT,
		 1},
	[QUERY_DEVICE_EXISTS] = {"device_exists", "SELECT NULL::text FROM device WHERE ueid = $1::bytea AND " TENANT,
				 1},
	[QUERY_REPORTS] = {"reports",
			   "SELECT " REPORT_ITEM ", received_at, epoch, seq FROM report WHERE " TENANT
			   " AND device_id = (SELECT device_id FROM device d WHERE d.ueid = $1::bytea AND d." TENANT
			   ") AND ($2::int8 IS NULL OR epoch = $2) AND received_at >= $4::timestamptz "
			   "AND (received_at, epoch, seq) > ($4::timestamptz, $5::int8, $6::int8) ORDER BY "
			   "received_at, epoch, seq LIMIT $3::int8",
			   6},
	/* The newest first, and from a cursor on those before it. */
	[QUERY_DEVICE_EVENTS] = {"device_events",
				 "SELECT (jsonb_build_object('position', position, 'received_at', rfc3339(time)) || "
				 "data)::text, position "
				 "FROM event WHERE " TENANT
				 " AND ueid = $1::bytea AND type LIKE 'device.event.%' AND position IS NOT NULL "
				 "AND position < CASE WHEN $3::int8 = 0 THEN 9223372036854775807 ELSE $3::int8 END "
				 "ORDER BY position DESC LIMIT $2::int8",
				 3},
	[QUERY_REPORT_BY_SEQ] =
		{"report_by_seq",
		 "SELECT " EVIDENCE ", sha256, " REPORT_ITEM " FROM report WHERE " TENANT
		 " AND device_id = (SELECT device_id FROM device d WHERE d.ueid = $1::bytea AND d." TENANT
		 ") AND epoch = $2::int8 AND seq = $3::int8 ORDER BY received_at LIMIT 16",
		 3},
	/* clang-format off */
	/* Whether it was here, and its retention is over: neither missing nor declared dropped. */
	[QUERY_REPORT_EXPIRED] = {"report_expired",
		"SELECT 1 FROM device d WHERE d.ueid = $1::bytea AND d." TENANT " AND EXISTS (SELECT FROM report_expired x WHERE x.device_id = d.device_id"
		" AND x.epoch = $2::int8 AND x.seq >= $3::int8) AND NOT EXISTS (SELECT FROM report_gap g WHERE g.device_id = d.device_id AND g.epoch = $2::int8"
		" AND g.missing @> $3::int8) AND NOT EXISTS (SELECT FROM report_drop p WHERE p.device_id = d.device_id AND p.epoch = $2::int8 AND p.dropped @> $3::int8)", 3},
	/* clang-format on */
	/* clang-format off */
	/* Nor of a device that was deleted, of which it may still be there. */
	[QUERY_REPORT_BY_DIGEST] = {"report_by_digest",
		"SELECT " EVIDENCE " FROM " MINE_FIRST " CROSS JOIN LATERAL (SELECT r.message FROM report r WHERE r.sha256 = $1::bytea AND r.tenant_id = mine.tenant_id"
		" AND EXISTS (SELECT FROM device d WHERE d.device_id = r.device_id OFFSET 0) LIMIT 1) r", 1},
	/* clang-format on */
	[QUERY_REFUSALS] = {"refusals",
			    "SELECT json_build_object('received_at', rfc3339(received_at), 'ueid', encode(ueid, "
			    "'hex'), 'reason', reason, 'size', "
			    "size, 'sha256', encode(sha256, 'hex'), 'sample', CASE WHEN (SELECT sees_evidence()) "
			    "THEN translate(encode(sample, 'base64'), E'\\n', '') END)::text, refusal_id "
			    "FROM refusal WHERE " TENANT
			    " AND ($1::text IS NULL OR reason = $1) AND ($2::bytea IS NULL OR ueid = $2) "
			    "AND refusal_id > $4::int8 ORDER BY refusal_id LIMIT $3::int8",
			    4},
	/* clang-format off */
	[QUERY_PROOF_PARTS] = {"proof_parts",
		"SELECT message, covered, ended, due_s, checkpoint, ueid, epoch, seq, head, sections_head, place, leaves, nodes FROM proof_parts($1::bytea)", 1},
	[QUERY_PROOF_CHAIN] = {"proof_chain", "SELECT " EVIDENCE " FROM proof_chain($1::bytea, $2::int8, $3::int8)", 3},
	[QUERY_CHALLENGE_ASK] = {"challenge_ask", "SELECT item::text, created::int::int8 FROM challenge_ask($1::bytea, $2::int8::int, who_context())", 2},
	[QUERY_CHALLENGES_HEAD] = {"challenges_head",
		"SELECT json_build_object('stray_nonces', coalesce((SELECT n FROM challenge_stray s WHERE s.device_id = d.device_id AND s." TENANT "), 0))::text"
		" FROM device d WHERE d.ueid = $1::bytea AND d." TENANT, 1},
	[QUERY_CHALLENGES] = {"challenges",
		"SELECT item, challenge_id FROM challenge_item WHERE " TENANT " AND device_id = (SELECT device_id FROM device d WHERE d.ueid = $1::bytea AND d." TENANT ")"
		" AND challenge_id < CASE WHEN $3::int8 = 0 THEN 9223372036854775807 ELSE $3::int8 END ORDER BY challenge_id DESC LIMIT $2::int8", 3},
	[QUERY_SINKS] = {"sinks", "SELECT item, sink_id FROM tenant_sinks() WHERE sink_id > $2::int8 ORDER BY sink_id LIMIT $1::int8", 2},
	[QUERY_TENANT] = {"tenant", "SELECT id FROM tenant WHERE " TENANT, 0},
	[QUERY_SINK_ADD] = {"sink_add",
		"SELECT add_tenant_sink($1::text, $2::text, $3::text, $4::text, $5::text, $6::bytea, $7::text, $8::text, $9::int8::int, $10::text::bool, $11::text)"
		"::int8", 11},
	[QUERY_SINK_DELETE] = {"sink_delete", "SELECT remove_tenant_sink($1::int8)::int::int8", 1},
	[QUERY_TENANTS] = {"tenants", "SELECT item, tenant_id::int8 FROM tenant_list() WHERE tenant_id > $2::int8 ORDER BY tenant_id LIMIT $1::int8", 2},
	[QUERY_TENANT_ITEM] = {"tenant_item",
		"SELECT json_build_object('id', t.id, 'name', t.name, 'created_at', rfc3339(t.created_at),"
		" 'devices', (SELECT coalesce(sum(c.n), 0)::int8 FROM fleet_count c WHERE c.tenant_id = t.tenant_id),"
		" 'legal_hold', hold_json('tenant', t.hold_since, t.hold_reason, t.hold_by), 'personal', t.personal,"
		" 'retention', retention_json(t.quiet_s, t.sections_s, t.history_s))::text, t.revision FROM tenant t WHERE t." TENANT " AND t.id = $1::text", 1},
	[QUERY_TENANT_CHANGE] = {"tenant_change",
		"SELECT tenant_change($1::text, $2::text::jsonb, who_context(), $3::int8)::int::int8", 3},
	[QUERY_TENANT_ADD] = {"tenant_add", "SELECT set_config('fleetstate.made', tenant_add($1::text, $2::text)::text, true)", 2},
	[QUERY_TENANT_ADDED] = {"tenant_added", "SELECT item FROM tenant_list() WHERE tenant_id = current_setting('fleetstate.made')::int", 0},
	[QUERY_TRUST_ANCHORS] = {"trust_anchors",
		"SELECT item, trust_anchor_id::int8 FROM trust_anchor_list() WHERE trust_anchor_id > $2::int8 ORDER BY trust_anchor_id LIMIT $1::int8", 2},
	[QUERY_TRUST_ANCHOR_ADD] = {"trust_anchor_add",
		"SELECT set_config('fleetstate.made', trust_anchor_add($1::bytea, $2::text, $3::text)::text, true)", 3},
	[QUERY_TRUST_ANCHOR_ADDED] = {"trust_anchor_added",
		"SELECT item FROM trust_anchor_list() WHERE trust_anchor_id = current_setting('fleetstate.made')::int", 0},
	[QUERY_TRUST_ANCHOR_REMOVE] = {"trust_anchor_remove", "SELECT trust_anchor_remove($1::int8)::int::int8", 1},
	[QUERY_TOKENS] = {"tokens", "SELECT item, token_id FROM tenant_tokens() WHERE token_id > $2::int8 ORDER BY token_id LIMIT $1::int8", 2},
	[QUERY_TOKEN_ADD] = {"token_add", "SELECT add_token($1::bytea, $2::bytea, $3::text, $4::text, $5::text, $6::text::timestamptz, $7::text, $8::text::jsonb)", 8},
	[QUERY_TOKEN_REVOKE] = {"token_revoke", "SELECT revoke_token($1::bytea, $2::int8)::int::int8", 2},
	/* Newest first. */
	[QUERY_AUDIT] = {"audit",
		"SELECT left(line, -1) || ', \"hash\": \"' || encode(hash, 'hex') || '\"}', number FROM audit"
		" WHERE (tenant_id = (SELECT tenant_context()) OR (tenant_id IS NULL AND (SELECT role_context()) = 'operator'))"
		" AND ($1::text IS NULL OR line::jsonb ->> 'kind' = $1) AND ($2::text IS NULL OR time >= $2::timestamptz) AND ($3::text IS NULL OR time < $3::timestamptz)"
		" AND number < CASE WHEN $5::int8 = 0 THEN 9223372036854775807 ELSE $5 END ORDER BY number DESC LIMIT $4::int8", 5},
	[QUERY_AUDIT_CHANGED] = {"audit_changed", "SELECT audit_changed($1::bytea, $2::text, $3::text, $4::text)", 4},
	[QUERY_AUDIT_NOTED] = {"audit_noted",
		"SELECT audit_noted($1::bytea[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::int[], $9::int8[], $10::timestamptz[],"
		" $11::timestamptz[])", 11},
	[QUERY_SESSION] = {"session", "SELECT session_item($1::bytea)", 1},
	[QUERY_SESSION_OPEN] = {"session_open", "SELECT open_session($1::bytea, $2::bytea)", 2},
	[QUERY_SESSION_CLOSE] = {"session_close", "SELECT close_session($1::bytea)::int::int8", 1},
	[QUERY_POLICIES] = {"policies", "SELECT item, policy_id::int8 FROM policy_item WHERE policy_id > $2::int8 ORDER BY policy_id LIMIT $1::int8", 2},
	[QUERY_POLICY_FOUND] = {"policy_found", "SELECT 1 WHERE find_policy($1::text) IS NOT NULL", 1},
	[QUERY_POLICY] = {"policy", "SELECT item, revision FROM policy_item WHERE policy_id = (SELECT find_policy($1::text))", 1},
	/* Of the tenant's own, or of the operator's. */
	[QUERY_POLICY_REVISION] = {"policy_revision", "SELECT revision FROM policy WHERE id = $1::text AND deleted_at IS NULL"
		" AND tenant_id IS NOT DISTINCT FROM CASE WHEN NOT $2::text::boolean THEN tenant_context() END", 2},
	[QUERY_POLICY_PUT] = {"policy_put",
		"SELECT created::int::int8 FROM policy_put($1::text, $2::text::jsonb, who_context(), $3::text::boolean, $4::int8)", 4},
	[QUERY_POLICY_DELETE] = {"policy_delete",
		"SELECT d::int::int8 FROM policy_delete($1::text, who_context(), $2::text::boolean, $3::int8) d", 3},
	[QUERY_POLICY_PREVIEW] = {"policy_preview",
		"SELECT CASE WHEN pg_try_advisory_xact_lock(8263, tenant_context())"
		" THEN policy_preview($1::text, $2::text::timestamptz, $3::int8::int, $4::text)::text END", 4},
	/* For the statements that follow in the transaction. */
	[QUERY_PREVIEW_LIMIT] = {"preview_limit", "SELECT set_config('statement_timeout', $1::text, true)", 1},
	[QUERY_ALERTS] = {"alerts", ALERTS_AND_SYSTEMS("AND group_id IS NULL"), 9},
	[QUERY_ALERTS_OPEN] = {"alerts_open", ALERTS_AND_SYSTEMS("AND group_id IS NULL AND resolved_at IS NULL"), 9},
	[QUERY_ALERTS_DEVICE] = {"alerts_device",
		ALERTS(TENANT, "AND device_id = (SELECT d.device_id FROM device d WHERE d.ueid = $4::bytea AND d." TENANT ")"), 9},
	[QUERY_ALERTS_MODEL] = {"alerts_model", ALERTS(TENANT, "AND device_id <> 0"), 9},
	[QUERY_ALERTS_GROUP] = {"alerts_group", ALERTS(TENANT, "AND group_id = $7::int8"), 9},
	/* The view's object with one more member; and whether it is resolved. */
	[QUERY_ALERT] = {"alert",
		"SELECT left(item, -1) || ', \"notes\" : ' || (SELECT coalesce(json_agg(json_build_object('at', rfc3339(n.at), 'who', n.who, 'action',"
		" n.action, 'comment', n.comment) ORDER BY n.at), '[]')::text FROM alert_note n WHERE n.alert_id = v.alert_id) || '}',"
		" (resolved_at IS NOT NULL)::int::int8 FROM " MINE_FIRST " CROSS JOIN LATERAL (SELECT * FROM alert_item a WHERE a.alert_id = $1::int8"
		" AND a.tenant_id IN (mine.tenant_id, 0) OFFSET 0) v", 1},
	[QUERY_ALERT_ACKNOWLEDGE] = {"alert_acknowledge",
		ALERT_CHANGED " FROM alert_acknowledge($1::int8[], $2::text::jsonb, who_context(), $3::text) ids", 3},
	[QUERY_ALERT_SILENCE] = {"alert_silence",
		ALERT_CHANGED " FROM alert_silence($1::int8[], $2::text::jsonb, who_context(), $4::text::timestamptz, $3::text) ids", 4},
	[QUERY_ALERT_RESOLVE] = {"alert_resolve",
		ALERT_CHANGED " FROM alert_resolve($1::int8[], $2::text::jsonb, who_context(), $3::text) ids", 3},
	[QUERY_ALERT_COMMENT] = {"alert_comment",
		ALERT_CHANGED " FROM alert_comment($1::int8[], $2::text::jsonb, who_context(), $3::text) ids", 3},
	[QUERY_MAINTENANCE] = {"maintenance",
		"SELECT item, maintenance_id FROM maintenance_item WHERE " TENANT " AND maintenance_id > $2::int8 ORDER BY maintenance_id LIMIT $1::int8", 2},
	/* A statement does not see what a function in it has just written. */
	[QUERY_MAINTENANCE_ADD] = {"maintenance_add",
		"SELECT set_config('fleetstate.made', maintenance_put(NULL, $1::text::jsonb, who_context())::text, true)", 1},
	[QUERY_MAINTENANCE_ADDED] = {"maintenance_added",
		"SELECT item, maintenance_id FROM maintenance_item WHERE maintenance_id = current_setting('fleetstate.made')::int8", 0},
	[QUERY_MAINTENANCE_DELETE] = {"maintenance_delete", "SELECT d::int::int8 FROM maintenance_delete($1::int8, who_context()) d", 1},
	/* $1: after; $2, $3: types and device. The oldest event kept, the last of any tenant's, and up to where the next statement looks: with a filter
	   it looks at some of the tenant's events only, so that what matches seldom costs no more than a page. */
	[QUERY_EVENT_PLACE] = {"event_place",
		"SELECT b.oldest, b.top, CASE WHEN $2::text IS NULL AND $3::bytea IS NULL OR w.n < " EVENT_WINDOW " THEN b.top ELSE w.last END"
		" FROM event_bounds() b, LATERAL (SELECT count(*) AS n, max(position) AS last FROM (SELECT position FROM event WHERE " TENANT
		" AND position > $1::int8 AND ($2::text IS NOT NULL OR $3::bytea IS NOT NULL) ORDER BY position LIMIT " EVENT_WINDOW ") x) w", 3},
	[QUERY_ASSETS] = {"assets",
		"SELECT " DEVICE_CELLS DEVICE_FOUND " WHERE d." TENANT " AND d.device_id > $1::int8 ORDER BY d.device_id LIMIT $2::int8", 2},
	/* So many events on, up to $3: the devices that they are about, as they are now. Of one that is gone there is only the ueid. Behind the device: the key to
	   go on after, and how many events were looked at. */
	[QUERY_ASSET_CHANGES] = {"asset_changes",
		"WITH e AS MATERIALIZED (SELECT position, ueid FROM event WHERE " TENANT " AND position > $1::int8 AND position <= $3::int8"
		" AND type LIKE 'device.%' AND type NOT LIKE 'device.event.%' AND type <> 'device.refused' AND ueid IS NOT NULL ORDER BY position LIMIT $2::int8),"
		" u AS (SELECT ueid, max(position) AS last FROM e GROUP BY 1)"
		" SELECT v.*, u.last, (SELECT count(*) FROM e), u.ueid FROM u LEFT JOIN LATERAL (SELECT " DEVICE_CELLS DEVICE_FOUND
		" WHERE d.ueid = u.ueid AND d." TENANT " OFFSET 0) v ON true ORDER BY u.last", 3},
	[QUERY_MANIFEST_KEEP] = {"manifest_keep", "SELECT keep_manifest($1::bytea, $2::bytea)", 2},
	[QUERY_MANIFEST] = {"manifest", "SELECT message FROM export_manifest WHERE sha256 = $1::bytea AND " TENANT, 1},
	[QUERY_EVENTS] = {"events",
		"SELECT position, event_id, time, (SELECT t.id FROM tenant t WHERE t." TENANT "), type, ueid, data::text"
		" FROM event WHERE " TENANT " AND position > $1::int8 AND ($2::text IS NULL OR type = ANY (string_to_array($2, ',')))"
		" AND ($3::bytea IS NULL OR ueid = $3) AND ($2::text IS NULL AND $3::bytea IS NULL OR position <= (SELECT max(position) FROM"
		" (SELECT position FROM event WHERE " TENANT " AND position > $1::int8 ORDER BY position LIMIT " EVENT_WINDOW ") x))"
		" ORDER BY position LIMIT $4::int8", 4},
	[QUERY_EVENT_TOPS] = {"event_tops", "SELECT top FROM event_tops($1::int[])", 1},
	/* clang-format on */
	/* Judges the token itself, so it needs no sign-in. */
	[QUERY_FLEET_METRICS] =
		{"fleet_metrics",
		 "SELECT family, tenant, label, value, n FROM fleet_metrics($1::bytea, $2::text)"
		 " UNION ALL SELECT family, tenant, label, value, n FROM sink_metrics($1::bytea, $2::text)",
		 2},
	/* clang-format off */
	DEVICE_ORDERS(ORDER_BOTH)
	DEVICE_NARROWS(NARROW_BOTH)
	DEVICE_NEARS(NEAR_UP, ">", DEVICE_FIRST, "", "<=", "min", DEVICE_LAST)
	DEVICE_NEARS(NEAR_DOWN, "<", DEVICE_LAST, " DESC", ">=", "max", DEVICE_FIRST)
	[QUERY_DEVICES_SEARCH] = {"devices_search", SEARCH(DEVICE_FIRST, ""), 5},
	[QUERY_DEVICES_SEARCH_DOWN] = {"devices_search_down", SEARCH(DEVICE_LAST, " DESC"), 5},
	[QUERY_DEVICES_HEARD] = {"devices_heard", HEARD("false"), 5},
	[QUERY_DEVICES_HEARD_DOWN] = {"devices_heard_down", HEARD("true"), 5},
	/* clang-format on */
};
