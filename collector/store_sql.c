#include "collector/store_sql.h"

/*
 * Each is planned once, perhaps while its tables are all but empty, and has to stay good when they are large: every row is looked up by its whole
 * key. Where an index holds only a part of the conditions (a tenant, a posture), the planner must not see that part: IS NOT DISTINCT FROM hides it,
 * and >= with ORDER BY asks for the one index that is in this order.
 */
/* clang-format off */
/* A state as its tenant will have it, and which way that is. */
#define STATE_TOLD(of) "CASE WHEN t.personal = 'keep' THEN " of ".state ELSE veil_state(" of ".state, " of ".tenant_id, t.personal) END, t.personal"

const struct store_statement store_writes[WRITES] = {
	[ENROL_DEVICE] = {"enrol_device", "b4oz",
		"INSERT INTO device (ueid, tenant_id, lifecycle, first_seen)"
		" SELECT u.ueid, u.tenant_id, CASE WHEN u.hold THEN 'pending' ELSE 'active' END, u.at"
		" FROM unnest($1::bytea[], $2::int[], $3::bool[], $4::timestamptz[]) AS u (ueid, tenant_id, hold, at)"
		" ON CONFLICT (ueid) WHERE lifecycle <> 'transferred' DO NOTHING"},
	[ENROL_HOT] = {"enrol_hot", "b",
		"INSERT INTO device_hot (device_id, tenant_id)"
		" SELECT d.device_id, d.tenant_id FROM unnest($1::bytea[]) AS u (ueid) JOIN device d ON d.ueid = u.ueid"
		" AND d.lifecycle <> 'transferred' ON CONFLICT (device_id) DO NOTHING"},
	/* A trust anchor vouches for devices of its own tenant only, registered beforehand or not: of another tenant's device it takes nothing in. What
	   the certificate vouches for stands with its key at once: the report that brought it may never be stored. A new key whose certificate begins
	   later takes the place of the old ones, which stay good below this report's number; one that begins earlier is an old one itself. */
	[ENROL_KEY] = {"enrol_key", "b4bbbbbzzz88",
		"WITH u AS (SELECT d.device_id, d.tenant_id, u.kid, u.spki, array_remove(ARRAY[u.c1, u.c2, u.c3], NULL) AS chain, u.not_before,"
		"  u.not_after, u.at, u.epoch, u.seq"
		"  FROM unnest($1::bytea[], $2::int[], $3::bytea[], $4::bytea[], $5::bytea[], $6::bytea[], $7::bytea[], $8::timestamptz[],"
		"  $9::timestamptz[], $10::timestamptz[], $11::bigint[], $12::bigint[])"
		"  AS u (ueid, tenant_id, kid, spki, c1, c2, c3, not_before, not_after, at, epoch, seq)"
		"  JOIN device d ON d.ueid = u.ueid WHERE d.tenant_id IS NOT DISTINCT FROM u.tenant_id AND d.lifecycle IN ('pending', 'active')),"
		" e AS (UPDATE device_epoch e SET certified = u.not_before"
		"  FROM (SELECT device_id, epoch, max(not_before) AS not_before FROM u GROUP BY 1, 2) u"
		"  WHERE e.device_id = u.device_id AND e.epoch = u.epoch AND (e.certified IS NULL OR e.certified < u.not_before)),"
		" r AS (UPDATE device_key o SET status = 'retired', superseded_epoch = f.epoch, superseded_seq = f.seq"
		"  FROM (SELECT DISTINCT ON (u.device_id) u.* FROM u WHERE NOT EXISTS (SELECT FROM device_key k WHERE k.device_id = u.device_id AND k.kid = u.kid)"
		"   ORDER BY u.device_id, u.not_before DESC, u.seq) f"
		"  WHERE o.device_id = f.device_id AND o.status = 'active' AND o.not_before <= f.not_before"
		"   AND NOT EXISTS (SELECT FROM u WHERE u.device_id = o.device_id AND u.kid = o.kid)),"
		" k AS (INSERT INTO device_key (device_id, kid, tenant_id, spki, chain, not_before, not_after, enrolled_at, status, superseded_epoch, superseded_seq)"
		"  SELECT DISTINCT ON (u.device_id, u.kid) u.device_id, u.kid, u.tenant_id, u.spki, u.chain, u.not_before, u.not_after, u.at,"
		"   CASE WHEN f.seq IS NOT NULL OR EXISTS (SELECT FROM device_key o WHERE o.device_id = u.device_id AND o.kid <> u.kid AND o.not_before > u.not_before)"
		"    THEN 'retired' ELSE 'active' END, f.epoch, f.seq"
		"  FROM u LEFT JOIN LATERAL (SELECT f.epoch, f.seq FROM u f WHERE f.device_id = u.device_id AND f.kid <> u.kid"
		"   AND (f.not_before, f.seq) > (u.not_before, u.seq) ORDER BY f.seq LIMIT 1) f ON true"
		"  ORDER BY u.device_id, u.kid, u.not_before DESC"
		" ON CONFLICT (device_id, kid) DO UPDATE SET chain = EXCLUDED.chain, not_before = EXCLUDED.not_before, not_after = EXCLUDED.not_after,"
		"  status = CASE device_key.status WHEN 'active' THEN EXCLUDED.status ELSE device_key.status END,"
		"  superseded_epoch = coalesce(device_key.superseded_epoch, EXCLUDED.superseded_epoch),"
		"  superseded_seq = coalesce(device_key.superseded_seq, EXCLUDED.superseded_seq)"
		"  WHERE EXCLUDED.not_before > device_key.not_before"
		" RETURNING device_id, tenant_id, kid)"
		" INSERT INTO event (tenant_id, type, ueid, data)"
		" SELECT k.tenant_id, CASE WHEN EXISTS (SELECT FROM device_key o WHERE o.device_id = k.device_id AND o.kid = k.kid) THEN 'device.renewed'"
		"  WHEN EXISTS (SELECT FROM device_key o WHERE o.device_id = k.device_id) THEN 'device.rekeyed' ELSE 'device.enrolled' END, d.ueid, jsonb_build_object('kid', encode(k.kid, 'hex'), 'lifecycle', d.lifecycle)"
		" FROM k JOIN device d ON d.device_id = k.device_id"},
	[MOVE_HOT] = {"move_hot", "8888bbbzz4o",
		"UPDATE device_hot h SET rev = h.rev + 1, epoch = u.epoch, hi = u.hi, head = u.head, sections_head = u.sections_head,"
		" facts = u.facts, last_seen = u.last_seen, last_iat = u.last_iat, interval_s = u.interval_s, gaps = u.gaps"
		" FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bytea[], $6::bytea[], $7::bytea[], $8::timestamptz[],"
		" $9::timestamptz[], $10::int[], $11::bool[])"
		" AS u (device_id, rev, epoch, hi, head, sections_head, facts, last_seen, last_iat, interval_s, gaps)"
		" WHERE h.device_id = u.device_id AND h.rev = u.rev"},
	/* Before any tenant's way with personal facts is read. */
	[LOCK_PERSONAL] = {"lock_personal", "4", "SELECT lock_personal(false) WHERE $1::int[] IS NOT NULL"},
	/* Those of all devices that are marked or judged below, before anything else that watch or evaluate may hold: in one order, theirs. */
	[LOCK_VERDICT] = {"lock_verdict", "8", "SELECT lock_verdicts($1::bigint[])"},
	[ADD_QUIET] = {"add_quiet", "888z4zb4b",
		"INSERT INTO report_quiet (device_id, epoch, seq, received_at, tenant_id, issued_at, sha256, flags, message)"
		" SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::timestamptz[], $5::int[], $6::timestamptz[], $7::bytea[],"
		" $8::int[], $9::bytea[])"},
	[ADD_FULL] = {"add_full", "888z4zb4b4",
		"INSERT INTO report_full (device_id, epoch, seq, received_at, tenant_id, issued_at, sha256, flags, message, sections)"
		" SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::timestamptz[], $5::int[], $6::timestamptz[], $7::bytea[],"
		" $8::int[], $9::bytea[], $10::int[])"},
	[ADD_EPOCH] = {"add_epoch", "8848zzo8888",
		"INSERT INTO device_epoch AS e (device_id, epoch, tenant_id, hi, first_seen, certified, vouched, duplicates, late, forks, chain_breaks)"
		" SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::int[], $4::bigint[], $5::timestamptz[], $6::timestamptz[], $7::bool[],"
		" $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[])"
		" ON CONFLICT (device_id, epoch) DO UPDATE SET hi = greatest(e.hi, EXCLUDED.hi), certified = greatest(e.certified, EXCLUDED.certified), duplicates = e.duplicates + EXCLUDED.duplicates,"
		" late = e.late + EXCLUDED.late, forks = e.forks + EXCLUDED.forks, chain_breaks = e.chain_breaks + EXCLUDED.chain_breaks"},
	[SPEND_WORD] = {"spend_word", "8",
		"UPDATE device SET reprovision_until = NULL WHERE device_id = ANY ($1::bigint[]) AND reprovision_until IS NOT NULL"},
	[DELETE_GAP] = {"delete_gap", "8888",
		"DELETE FROM report_gap g USING unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS u (device_id, epoch, first, last)"
		" WHERE g.device_id = u.device_id AND g.epoch = u.epoch AND g.missing = int8range(u.first, u.last, '[]')"},
	[ADD_GAP] = {"add_gap", "88884",
		"INSERT INTO report_gap (device_id, epoch, missing, tenant_id)"
		" SELECT u.device_id, u.epoch, int8range(u.first, u.last, '[]'), u.tenant_id"
		" FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::int[]) AS u (device_id, epoch, first, last, tenant_id)"
		" ON CONFLICT (device_id, epoch, missing) DO NOTHING"},
	[ADD_DROP] = {"add_drop", "88884t8",
		"INSERT INTO report_drop (device_id, epoch, dropped, tenant_id, cause, declared_by)"
		" SELECT u.device_id, u.epoch, int8range(u.first, u.last, '[]'), u.tenant_id, u.cause, u.seq"
		" FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::int[], $6::text[], $7::bigint[])"
		" AS u (device_id, epoch, first, last, tenant_id, cause, seq)"
		" ON CONFLICT (device_id, epoch, dropped) DO NOTHING"},
	[ADD_COMPONENT] = {"add_component", "4bttttttt",
		"INSERT INTO component (tenant_id, digest, type, name, version, architecture, source, source_version, purl)"
		" SELECT * FROM unnest($1::int[], $2::bytea[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[])"
		" ON CONFLICT (tenant_id, digest) DO NOTHING"},
	[ADD_INVENTORY] = {"add_inventory", "4b4",
		"INSERT INTO inventory (tenant_id, digest, components) SELECT * FROM unnest($1::int[], $2::bytea[], $3::int[])"
		" ON CONFLICT (tenant_id, digest) DO NOTHING"},
	[ADD_MEMBER] = {"add_member", "4bb",
		"INSERT INTO inventory_component (inventory_id, component_id, tenant_id)"
		" SELECT i.inventory_id, c.component_id, u.tenant_id FROM unnest($1::int[], $2::bytea[], $3::bytea[]) AS u (tenant_id, inventory, component)"
		" JOIN inventory i ON i.tenant_id = u.tenant_id AND i.digest = u.inventory,"
		" LATERAL (SELECT component_id, tenant_id, digest FROM component WHERE (tenant_id, digest) >= (u.tenant_id, u.component)"
		"  ORDER BY tenant_id, digest LIMIT 1) c"
		" WHERE c.tenant_id = u.tenant_id AND c.digest = u.component"
		" ON CONFLICT (inventory_id, component_id) DO NOTHING"},
	/* Late states are older than the device's and make no history; each other one is compared with the one before it, the first with what is stored. */
	[ADD_HISTORY] = {"add_history", "8z884zbbj",
		"WITH u AS (SELECT u.*, lag(u.state_digest, 1, s.state_digest) OVER w AS state_before,"
		"  lag(u.inventory_digest, 1, s.inventory_digest) OVER w AS inventory_before"
		"  FROM unnest($1::bigint[], $2::timestamptz[], $3::bigint[], $4::bigint[], $5::int[], $6::timestamptz[], $7::bytea[],"
		"  $8::bytea[], $9::jsonb[])"
		"  AS u (device_id, valid_from, epoch, seq, tenant_id, issued_at, state_digest, inventory_digest, state)"
		"  LEFT JOIN device_state s ON s.device_id = u.device_id"
		"  WHERE s.device_id IS NULL OR s.epoch <> u.epoch OR s.seq < u.seq"
		"  WINDOW w AS (PARTITION BY u.device_id ORDER BY u.seq)),"
		" c AS (SELECT * FROM u WHERE (state_digest, inventory_digest) IS DISTINCT FROM (state_before, inventory_before)),"
		" h AS (INSERT INTO state_history (device_id, valid_from, epoch, seq, tenant_id, issued_at, state_digest, inventory_digest, state, personal)"
		"  SELECT c.device_id, c.valid_from, c.epoch, c.seq, c.tenant_id, c.issued_at, c.state_digest, c.inventory_digest, " STATE_TOLD("c")
		"  FROM c JOIN tenant t ON t.tenant_id = c.tenant_id)"
		" INSERT INTO event (tenant_id, type, ueid, data)"
		" SELECT c.tenant_id, e.type, d.ueid, jsonb_build_object('epoch', epoch_hex(c.epoch), 'seq', c.seq, 'digest', encode(e.digest, 'hex'),"
		"  'previous', encode(e.previous, 'hex'))"
		" FROM c JOIN device d ON d.device_id = c.device_id,"
		" LATERAL (VALUES (1, 'device.state', c.state_digest, c.state_before), (2, 'device.inventory', c.inventory_digest, c.inventory_before))"
		"  AS e (n, type, digest, previous)"
		" WHERE e.digest IS DISTINCT FROM e.previous AND d.lifecycle <> 'pending' ORDER BY c.device_id, c.seq, e.n"},
	[MOVE_STATE] = {"move_state", "8488zzbbj",
		"INSERT INTO device_state AS s (device_id, tenant_id, epoch, seq, received_at, issued_at, state_digest, inventory_digest, state, personal)"
		" SELECT u.device_id, u.tenant_id, u.epoch, u.seq, u.received_at, u.issued_at, u.state_digest, u.inventory_digest, " STATE_TOLD("u")
		" FROM unnest($1::bigint[], $2::int[], $3::bigint[], $4::bigint[], $5::timestamptz[], $6::timestamptz[], $7::bytea[],"
		" $8::bytea[], $9::jsonb[])"
		" AS u (device_id, tenant_id, epoch, seq, received_at, issued_at, state_digest, inventory_digest, state)"
		" JOIN tenant t ON t.tenant_id = u.tenant_id"
		" ON CONFLICT (device_id) DO UPDATE SET tenant_id = EXCLUDED.tenant_id, epoch = EXCLUDED.epoch, seq = EXCLUDED.seq,"
		" received_at = EXCLUDED.received_at, issued_at = EXCLUDED.issued_at, state_digest = EXCLUDED.state_digest,"
		" inventory_digest = EXCLUDED.inventory_digest, state = EXCLUDED.state, personal = EXCLUDED.personal"
		" WHERE s.epoch <> EXCLUDED.epoch OR s.seq < EXCLUDED.seq"},
	[SET_DEVICE] = {"set_device", "888tttttttt",
		"UPDATE device d SET first_seen = coalesce(d.first_seen, s.received_at), serial = u.serial, vendor = u.vendor, hwmodel = u.hwmodel, hwversion = u.hwversion, oemid = u.oemid,"
		" swname = u.swname, swversion = u.swversion, kernel = u.kernel"
		" FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],"
		" $10::text[], $11::text[])"
		" AS u (device_id, epoch, seq, serial, vendor, hwmodel, hwversion, oemid, swname, swversion, kernel)"
		" JOIN device_state s ON s.device_id = u.device_id AND s.epoch = u.epoch AND s.seq = u.seq"
		" WHERE d.device_id = u.device_id AND (d.first_seen IS NULL OR"
		" (d.serial, d.vendor, d.hwmodel, d.hwversion, d.oemid, d.swname, d.swversion, d.kernel) IS DISTINCT FROM"
		" (u.serial, u.vendor, u.hwmodel, u.hwversion, u.oemid, u.swname, u.swversion, u.kernel))"},
	[ANSWER_CHALLENGE] = {"answer_challenge", "84b88b",
		"SELECT answer_challenges($1::bigint[], $2::int[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bytea[])"},
	/* Verdicts, see 005_judgement.sql. array_agg unpacks a state once for all policies. */
	[MARK_DEVICE] = {"mark_device", "8tt", "SELECT mark_devices($1::bigint[], $2::text[], $3::text[])"},
	[JUDGE_STATE] = {"judge_state", "888",
		"SELECT judge_states(array_agg(s.device_id ORDER BY u.n), array_agg(s.state ORDER BY u.n))"
		" FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS u (device_id, epoch, seq, n)"
		" JOIN device_state s ON s.device_id = u.device_id AND s.epoch = u.epoch AND s.seq = u.seq"},
	[ADD_EVENT] = {"add_event", "4tbj",
		"INSERT INTO event (tenant_id, type, ueid, data)"
		" SELECT u.tenant_id, u.type, u.ueid, CASE WHEN t.personal = 'keep' OR u.type NOT LIKE 'device.event.%' THEN u.data"
		"  ELSE veil_event(u.data, u.tenant_id, t.personal, false) END"
		" FROM unnest($1::int[], $2::text[], $3::bytea[], $4::jsonb[]) WITH ORDINALITY AS u (tenant_id, type, ueid, data, n)"
		" JOIN tenant t ON t.tenant_id = u.tenant_id ORDER BY u.n"},
	/* The first of a device and reason is told of at once; what follows is counted, and told by watch when the window is over. */
	[COUNT_REFUSAL] = {"count_refusal", "8t4",
		"WITH r AS (INSERT INTO refusal_count AS r (device_id, reason, tenant_id, n, told)"
		"  SELECT u.device_id, u.reason, u.tenant_id, count(*), count(*)"
		"  FROM unnest($1::bigint[], $2::text[], $3::int[]) AS u (device_id, reason, tenant_id) GROUP BY 1, 2, 3 ORDER BY 1, 2"
		"  ON CONFLICT (device_id, reason) DO UPDATE SET n = r.n + EXCLUDED.n,"
		"   told_at = CASE WHEN r.told_at > now() - " REFUSAL_WINDOW " THEN r.told_at ELSE now() END,"
		"   told = CASE WHEN r.told_at > now() - " REFUSAL_WINDOW " THEN r.told ELSE r.untold + EXCLUDED.n END,"
		"   untold = CASE WHEN r.told_at > now() - " REFUSAL_WINDOW " THEN r.untold + EXCLUDED.n ELSE 0 END"
		"  RETURNING device_id, reason, tenant_id, n, told, told_at, untold)"
		" INSERT INTO event (tenant_id, type, ueid, data)"
		" SELECT r.tenant_id, 'device.refused', d.ueid, jsonb_build_object('reason', r.reason, 'n', r.told, 'total', r.n)"
		" FROM r JOIN device d ON d.device_id = r.device_id WHERE r.told_at = now() AND r.untold = 0 AND d.lifecycle <> 'pending'"},
	[ADD_REFUSAL] = {"add_refusal", "z48bt4bb",
		"INSERT INTO refusal (received_at, tenant_id, device_id, ueid, reason, size, sha256, sample)"
		" SELECT * FROM unnest($1::timestamptz[], $2::int[], $3::bigint[], $4::bytea[], $5::text[], $6::int[], $7::bytea[], $8::bytea[])"},
};

const struct store_statement store_reads[READS] = {
	[READ_EPOCHS] = {"read_epochs", "88",
		"SELECT e.device_id, e.epoch, e.hi, e.vouched, lower(g.missing), upper(g.missing),"
		" (SELECT r.sha256 FROM report r WHERE r.device_id = e.device_id AND r.epoch = e.epoch AND r.seq = e.hi AND r.flags & 2 = 0 LIMIT 1)"
		" FROM (SELECT DISTINCT device_id, epoch FROM unnest($1::bigint[], $2::bigint[]) AS u (device_id, epoch)) u"
		" JOIN device_epoch e ON e.device_id = u.device_id AND e.epoch = u.epoch"
		" LEFT JOIN report_gap g ON g.device_id = e.device_id AND g.epoch = e.epoch ORDER BY 1, 2, 5"},
	[READ_VOUCHERS] = {"read_vouchers", "8",
		"SELECT d.device_id, max(e.certified) FILTER (WHERE e.vouched), coalesce(d.reprovision_until >= now(), false),"
		" count(*) FILTER (WHERE NOT e.vouched) FROM device d LEFT JOIN device_epoch e ON e.device_id = d.device_id"
		" WHERE d.device_id = ANY ($1::bigint[]) GROUP BY d.device_id"},
	[READ_PENDING] = {"read_pending", "8",
		"SELECT u.device_id, (SELECT count(*) FROM report_quiet q WHERE q.device_id = u.device_id) +"
		" (SELECT count(*) FROM report_full f WHERE f.device_id = u.device_id) FROM unnest($1::bigint[]) AS u (device_id)"},
	[READ_INVENTORIES] = {"read_inventories", "84b",
		"SELECT u.i FROM unnest($1::bigint[], $2::int[], $3::bytea[]) AS u (i, tenant_id, digest)"
		" JOIN inventory v ON v.tenant_id = u.tenant_id AND v.digest = u.digest"},
	[READ_TAKEN] = {"read_taken", "8888b",
		"SELECT u.i, r.sha256 = u.sha256, CASE WHEN r.sha256 <> u.sha256 THEN r.message END, NULL::bool"
		" FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bytea[]) AS u (i, device_id, epoch, seq, sha256)"
		" JOIN report r ON r.device_id = u.device_id AND r.epoch = u.epoch AND r.seq = u.seq"
		" UNION ALL SELECT u.i, NULL, NULL, p.cause = 'skipped'"
		" FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bytea[]) AS u (i, device_id, epoch, seq, sha256)"
		" JOIN report_drop p ON p.device_id = u.device_id AND p.epoch = u.epoch AND p.dropped @> u.seq"
		" WHERE p.cause NOT IN ('transferred', 'deleted')"},
	/* After a COMMIT that nobody answered. A server that took another's place may count transactions anew: the rows have to have moved too. */
	[READ_FATE] = {"read_fate", "t88",
		"SELECT s.status = 'in progress', s.status = 'committed' AND NOT EXISTS ("
		" SELECT FROM unnest($2::bigint[], $3::bigint[]) AS u (device_id, rev)"
		" JOIN device_hot h ON h.device_id = u.device_id WHERE h.rev <= u.rev)"
		" FROM pg_xact_status(($1::text[])[1]::xid8) AS s (status)"},
};
/* clang-format on */
