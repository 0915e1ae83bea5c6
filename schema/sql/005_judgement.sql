-- How verdicts come about: outcomes -> alerts -> posture -> events, in the caller's transaction, set by set. Whatever changes an outcome goes through
-- apply_outcomes: ingest with a state (judge_states) or a mark (mark_devices), time (judge_due), changed rules (judge_anew), tenants' own (own_judged).
-- Verdicts are locked by device_id, ascending, and moved by compare-and-set on device_verdict.rev. Who does so in several steps, or changes the devices
-- besides, locks all of them beforehand.
SET search_path = fleetstate, pg_catalog;

CREATE FUNCTION put_outcomes(outcomes text, slots int[], fresh text[]) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	FOR i IN 1 .. coalesce(array_length(slots, 1), 0) LOOP
		outcomes := overlay(rpad(outcomes, greatest(length(outcomes), slots[i]), '-') PLACING fresh[i] FROM slots[i] FOR 1);
	END LOOP;
	RETURN outcomes;
END $$;
CREATE FUNCTION outcome_at(outcomes text, slot int) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
	AS $$ SELECT CASE WHEN slot <= length(outcomes) THEN substr(outcomes, slot, 1) ELSE '-' END $$;

-- The posture of each, from its outcomes; an event where it changed. As in all that is called for each batch, plpgsql keeps the plan.
CREATE FUNCTION settle_posture(devices bigint[]) RETURNS void LANGUAGE plpgsql
	SET search_path = fleetstate, pg_catalog, pg_temp SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
	WITH x AS MATERIALIZED (
		SELECT d.device_id, d.posture AS previous, o.*, EXISTS (SELECT FROM device_state s WHERE s.device_id = d.device_id) AS has_state
		FROM unnest(devices) WITH ORDINALITY AS u (device_id, n) JOIN device d ON d.device_id = u.device_id JOIN device_verdict v ON v.device_id = u.device_id,
			LATERAL (SELECT array_agg(id ORDER BY id) FILTER (WHERE stands AND posture = 'untrusted') AS untrusted,
				array_agg(id ORDER BY id) FILTER (WHERE stands AND posture = 'silent') AS silent,
				array_agg(id ORDER BY id) FILTER (WHERE stands AND posture = 'degraded') AS degraded,
				array_agg(id ORDER BY id) FILTER (WHERE outcome = '?' AND severity IN ('high', 'critical')) AS grave,
				count(*) FILTER (WHERE outcome = '?') AS unknowns, count(*) FILTER (WHERE outcome <> '-' AND NOT builtin) AS judged
				FROM (SELECT p.id, p.severity, p.builtin, p.posture, o.outcome, o.outcome IN ('1', 'c', 'u', 'h') AS stands
					FROM policy p, LATERAL (SELECT outcome_at(CASE WHEN p.tenant_id IS NULL THEN v.outcomes ELSE v.own_outcomes END, p.slot) AS outcome
						OFFSET 0) o
					WHERE p.slot IS NOT NULL AND (p.tenant_id IS NULL OR p.tenant_id = v.tenant_id)) p) o
		WHERE d.lifecycle IN ('active', 'pending') ORDER BY u.n
	), y AS MATERIALIZED (
		SELECT device_id, previous, unknowns, CASE WHEN untrusted IS NOT NULL THEN 'untrusted' WHEN silent IS NOT NULL THEN 'silent'
				WHEN degraded IS NOT NULL THEN 'degraded' WHEN has_state AND judged > 0 AND grave IS NULL THEN 'operational' ELSE 'unknown' END AS posture,
			coalesce(untrusted, silent, degraded, CASE WHEN NOT has_state THEN '{no-state}' WHEN judged = 0 THEN '{no-policies}' ELSE grave END, '{}') AS reasons
		FROM x
	), z AS (
		UPDATE device d SET posture = y.posture, reasons = y.reasons, unknowns = y.unknowns,
			posture_since = CASE WHEN y.posture = d.posture THEN d.posture_since ELSE now() END
		FROM y WHERE d.device_id = y.device_id AND (d.posture, d.reasons, d.unknowns) IS DISTINCT FROM (y.posture, y.reasons, y.unknowns::int)
		RETURNING d.device_id, d.tenant_id, d.ueid, d.lifecycle, d.posture, d.reasons, y.previous
	)
	INSERT INTO event (tenant_id, type, ueid, data)
	SELECT z.tenant_id, 'device.posture', z.ueid, jsonb_build_object('posture', z.posture, 'reasons', z.reasons, 'previous', z.previous)
		|| CASE WHEN z.posture = 'silent' THEN jsonb_build_object('last_seen', rfc3339(h.last_seen), 'interval_s', h.interval_s) ELSE '{}' END
	FROM z LEFT JOIN device_hot h ON h.device_id = z.device_id WHERE z.posture <> z.previous AND z.lifecycle = 'active' ORDER BY z.device_id;
END $$;

-- Fewer devices than that open an alert each; as many within the window stand under one. A group that nobody joined for a window is old news: who
-- comes later is told of.
CREATE FUNCTION group_least() RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT 5 $$;
CREATE FUNCTION group_window() RETURNS interval LANGUAGE sql IMMUTABLE AS $$ SELECT interval '10 minutes' $$;
-- What comes back so soon is the same alert again, reopened. Three times reopened it flaps, and resolves only when the violation stayed away as long.
CREATE FUNCTION reopen_window() RETURNS interval LANGUAGE sql IMMUTABLE AS $$ SELECT interval '1 hour' $$;
CREATE FUNCTION flaps(reopened int, reopened_at timestamptz) RETURNS boolean LANGUAGE sql STABLE AS $$
	SELECT coalesce($1 >= 3 AND $2 > now() - reopen_window(), false)
$$;

-- Alerts that just opened or were reopened: under a group where many did. Returns those that stand alone.
CREATE FUNCTION group_alerts(fresh bigint[]) RETURNS bigint[] LANGUAGE plpgsql SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	f record; g alert; others bigint[]; alone bigint[] := '{}'; kind text;
BEGIN
	FOR f IN SELECT a.tenant_id, a.policy_id, array_agg(a.alert_id) AS ids, count(*)::int AS n FROM unnest(fresh) u (alert_id) JOIN alert a USING (alert_id)
		GROUP BY 1, 2 ORDER BY 1, 2 LOOP
		kind := NULL;
		UPDATE alert a SET devices = a.devices + f.n, devices_most = greatest(a.devices_most, a.devices + f.n), joined_at = now()
			WHERE a.device_id = 0 AND a.policy_id = f.policy_id AND a.tenant_id = f.tenant_id AND a.resolved_at IS NULL
				AND a.joined_at > now() - group_window()
			RETURNING * INTO g;
		IF NOT FOUND THEN
			others := ARRAY(SELECT a.alert_id FROM alert a WHERE a.tenant_id = f.tenant_id AND a.policy_id = f.policy_id AND a.resolved_at IS NULL
				AND a.opened_at > now() - group_window() AND a.group_id IS NULL AND a.device_id <> 0 AND a.alert_id <> ALL (f.ids));
			IF f.n + cardinality(others) < group_least() THEN
				alone := alone || f.ids;
				CONTINUE;
			END IF;
			LOOP
				-- One that stands already, or did until a while ago; else a new one.
				UPDATE alert a SET resolved_at = NULL, resolved_by = NULL, reopened = a.reopened + 1, reopened_at = now(), acknowledged_at = NULL,
						acknowledged_by = NULL, joined_at = now()
					WHERE a.device_id = 0 AND a.alert_id = (SELECT max(b.alert_id) FROM alert b WHERE b.device_id = 0 AND b.policy_id = f.policy_id
						AND b.tenant_id = f.tenant_id) AND (a.resolved_at IS NULL OR a.resolved_at > now() - reopen_window())
					RETURNING * INTO g;
				kind := 'alert.reopened';
				EXIT WHEN FOUND;
				INSERT INTO alert (tenant_id, policy_id, reasons, devices) SELECT f.tenant_id, p.policy_id, ARRAY[coalesce(p.predicate_text, p.id)], 0
					FROM policy p WHERE p.policy_id = f.policy_id
					ON CONFLICT (device_id, policy_id, tenant_id) WHERE resolved_at IS NULL DO NOTHING RETURNING * INTO g;
				kind := 'alert.opened';
				EXIT WHEN FOUND;
			END LOOP;
			UPDATE alert SET group_id = g.alert_id WHERE alert_id = ANY (others);
			UPDATE alert a SET devices = a.devices + f.n + cardinality(others), devices_most = greatest(a.devices_most, a.devices + f.n + cardinality(others))
				WHERE a.device_id = 0 AND a.alert_id = g.alert_id;
		END IF;
		UPDATE alert a SET group_id = g.alert_id, told = false, acknowledged_at = g.acknowledged_at, acknowledged_by = g.acknowledged_by,
			silenced_until = g.silenced_until, silenced_by = g.silenced_by WHERE a.alert_id = ANY (f.ids);
		IF kind IS NOT NULL THEN
			PERFORM tell_alerts(ARRAY[g.alert_id], kind, '{}');
		END IF;
	END LOOP;
	RETURN alone;
END $$;

-- So many members of these groups resolved. A group without members is resolved too, and said to be.
CREATE FUNCTION leave_groups(groups bigint[]) RETURNS void LANGUAGE plpgsql SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	f record; g alert;
BEGIN
	FOR f IN SELECT u.alert_id, count(*)::int AS n FROM unnest(groups) u (alert_id) WHERE u.alert_id IS NOT NULL GROUP BY 1 ORDER BY 1 LOOP
		UPDATE alert a SET devices = greatest(a.devices - f.n, 0), resolved_at = CASE WHEN a.devices <= f.n THEN now() END
			WHERE a.device_id = 0 AND a.alert_id = f.alert_id AND a.resolved_at IS NULL RETURNING * INTO g;
		IF FOUND AND g.resolved_at IS NOT NULL THEN
			PERFORM tell_alerts(ARRAY[g.alert_id], 'alert.resolved', '{}');
		END IF;
	END LOOP;
END $$;

-- What was found of each (device, policy): 1 violated, 0 met, ? unknown, - no matter. No pair twice.
CREATE FUNCTION apply_outcomes(devices bigint[], policies int[], seen text[]) RETURNS void LANGUAGE plpgsql
	SET search_path = fleetstate, pg_catalog, pg_temp SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
	moved bigint[]; opened bigint[]; reopened bigint[]; closed bigint[]; groups bigint[]; alone bigint[];
BEGIN
	WHILE cardinality(devices) > 0 LOOP
		WITH u AS MATERIALIZED (
			SELECT x.device_id, x.policy_id, v.rev, v.tenant_id, v.outcomes, v.own_outcomes, p.slot, p.tenant_id IS NOT NULL AS own,
				p.for_reports, p.for_s, p.clear_reports, p.clear_s, coalesce(p.predicate_text, p.id) AS reason, h.epoch, h.hi,
				outcome_at(CASE WHEN p.tenant_id IS NULL THEN v.outcomes ELSE v.own_outcomes END, p.slot) AS was,
				CASE WHEN d.lifecycle IN ('active', 'pending') THEN x.seen ELSE '-' END AS seen,
				d.lifecycle <> 'active' AS waits,
				CASE WHEN x.seen = '1' THEN (SELECT max(m.until_at) FROM maintenance m WHERE m.tenant_id = d.tenant_id AND m.until_at > now()
					AND m.from_at <= now() AND in_scope(m.models, m.firmwares, m.labels, d.hwmodel, d.swversion, d.labels)
					AND (m.ueids IS NULL OR d.ueid = ANY (m.ueids))) END AS held_until,
				q.due_at <= now() AND (q.reports <= 1 OR h.epoch <> q.epoch OR h.hi - q.seq + 1 >= q.reports) AS ripe, q.due_at
			FROM unnest(devices, policies, seen) WITH ORDINALITY AS x (device_id, policy_id, seen, n)
				JOIN device_verdict v ON v.device_id = x.device_id
				JOIN policy p ON p.policy_id = x.policy_id AND p.slot IS NOT NULL
				JOIN device d ON d.device_id = x.device_id
				LEFT JOIN device_hot h ON h.device_id = x.device_id
				LEFT JOIN verdict_pending q ON q.device_id = x.device_id AND q.policy_id = x.policy_id
			ORDER BY x.n
		), t AS MATERIALIZED (
			SELECT u.*, CASE seen
				WHEN '1' THEN CASE WHEN was IN ('1', 'c', 'u', 'd') THEN '1' WHEN waits OR held_until IS NOT NULL THEN 'h'
					WHEN was <> 'h' AND (for_reports > 1 OR for_s > 0) AND NOT (was = 'p' AND ripe) THEN 'p' ELSE '1' END
				WHEN '0' THEN CASE WHEN was NOT IN ('1', 'c', 'u', 'd') THEN '0'
					WHEN was <> 'd' AND (clear_reports > 1 OR clear_s > 0) AND NOT (was = 'c' AND ripe) THEN 'c'
					WHEN NOT (was = 'd' AND ripe) AND (SELECT flaps(a.reopened, a.reopened_at) FROM alert a WHERE a.device_id = u.device_id
						AND a.policy_id = u.policy_id AND a.tenant_id = u.tenant_id AND a.resolved_at IS NULL) THEN 'd' ELSE '0' END
				WHEN '?' THEN CASE WHEN was IN ('1', 'c', 'u', 'd') THEN 'u' WHEN was = 'h' THEN 'h' ELSE '?' END
				ELSE '-' END AS becomes
			FROM u
		), s AS MATERIALIZED (
			SELECT device_id, rev, put_outcomes(outcomes, array_agg(slot) FILTER (WHERE NOT own), array_agg(t.becomes) FILTER (WHERE NOT own)) AS outcomes,
				put_outcomes(own_outcomes, array_agg(slot) FILTER (WHERE own), array_agg(t.becomes) FILTER (WHERE own)) AS own_outcomes
			FROM t WHERE was <> t.becomes GROUP BY device_id, rev, outcomes, own_outcomes ORDER BY device_id
		), m AS (
			UPDATE device_verdict v SET rev = v.rev + 1, outcomes = s.outcomes, own_outcomes = s.own_outcomes
			FROM s WHERE v.device_id = s.device_id AND v.rev = s.rev RETURNING v.device_id
		), c AS MATERIALIZED (
			SELECT t.*, t.becomes IN ('1', 'c', 'u', 'd') AS alerts, was IN ('1', 'c', 'u', 'd') AS alerted FROM t JOIN m ON m.device_id = t.device_id WHERE was <> t.becomes
		), gone AS (
			DELETE FROM verdict_pending q USING c WHERE q.device_id = c.device_id AND q.policy_id = c.policy_id
				AND c.was IN ('p', 'c', 'h', 'd') AND c.becomes NOT IN ('p', 'c', 'h', 'd')
		), waiting AS (
			INSERT INTO verdict_pending (device_id, policy_id, tenant_id, epoch, seq, reports, due_at)
			SELECT device_id, policy_id, tenant_id, coalesce(epoch, 0), coalesce(hi, 0),
				CASE c.becomes WHEN 'p' THEN for_reports WHEN 'c' THEN clear_reports ELSE 0 END,
				CASE c.becomes WHEN 'h' THEN coalesce(held_until, 'infinity') WHEN 'p' THEN now() + for_s * interval '1 s'
					WHEN 'c' THEN now() + clear_s * interval '1 s' ELSE now() + reopen_window() END
			FROM c WHERE c.becomes IN ('p', 'c', 'h', 'd')
			ON CONFLICT (device_id, policy_id) DO UPDATE SET since = now(), epoch = EXCLUDED.epoch, seq = EXCLUDED.seq, reports = EXCLUDED.reports,
				due_at = EXCLUDED.due_at
		), longer AS (
			UPDATE verdict_pending q SET due_at = coalesce(t.held_until, 'infinity') FROM t
			WHERE q.device_id = t.device_id AND q.policy_id = t.policy_id AND t.was = 'h' AND t.becomes = 'h' AND t.due_at <= now()
		), back AS (
			UPDATE alert a SET resolved_at = NULL, resolved_by = NULL, reopened = a.reopened + 1, reopened_at = now(), acknowledged_at = NULL,
				acknowledged_by = NULL, group_id = NULL, told = true
			FROM (SELECT c.device_id, (SELECT max(b.alert_id) FROM alert b WHERE b.device_id = c.device_id AND b.policy_id = c.policy_id
					AND b.tenant_id IS NOT DISTINCT FROM c.tenant_id) AS alert_id
				FROM c WHERE alerts AND NOT alerted) l
			WHERE a.device_id = l.device_id AND a.alert_id = l.alert_id AND a.resolved_at > now() - reopen_window()
			RETURNING a.alert_id, a.device_id, a.policy_id
		), fresh AS (
			INSERT INTO alert (device_id, tenant_id, policy_id, reasons)
			SELECT c.device_id, c.tenant_id, c.policy_id, ARRAY[reason] FROM c WHERE alerts AND NOT alerted
				AND NOT EXISTS (SELECT FROM back WHERE back.device_id = c.device_id AND back.policy_id = c.policy_id)
			ON CONFLICT (device_id, policy_id, tenant_id) WHERE resolved_at IS NULL DO NOTHING
			RETURNING alert_id
		), over AS (
			-- Each looked up by itself: a plan made while there were few alerts would else go through all that are open.
			UPDATE alert a SET resolved_at = now(), resolved_by = NULL
			FROM (SELECT o.device_id, o.alert_id FROM c, LATERAL (SELECT b.device_id, b.alert_id FROM alert b WHERE b.device_id = c.device_id
				AND b.policy_id = c.policy_id AND b.resolved_at IS NULL OFFSET 0) o WHERE c.alerted AND NOT c.alerts) l
			WHERE a.device_id = l.device_id AND a.alert_id = l.alert_id AND a.resolved_at IS NULL
			RETURNING a.alert_id, a.group_id, a.told
		), later AS (
			SELECT t.device_id, t.policy_id, t.seen FROM t WHERE was <> t.becomes AND NOT EXISTS (SELECT FROM m WHERE m.device_id = t.device_id)
		)
		SELECT (SELECT array_agg(device_id ORDER BY device_id) FROM m), (SELECT array_agg(alert_id) FROM fresh), (SELECT array_agg(alert_id) FROM back),
			(SELECT array_agg(alert_id) FROM over WHERE told), (SELECT array_agg(group_id) FROM over),
			(SELECT array_agg(device_id ORDER BY device_id, policy_id) FROM later), (SELECT array_agg(policy_id ORDER BY device_id, policy_id) FROM later),
			(SELECT array_agg(seen ORDER BY device_id, policy_id) FROM later)
			INTO moved, opened, reopened, closed, groups, devices, policies, seen;
		IF opened IS NOT NULL OR reopened IS NOT NULL THEN
			alone := group_alerts(opened || reopened);
			PERFORM tell_alerts(ARRAY(SELECT a FROM unnest(opened) a WHERE a = ANY (alone)), 'alert.opened', '{}');
			PERFORM tell_alerts(ARRAY(SELECT a FROM unnest(reopened) a WHERE a = ANY (alone)), 'alert.reopened', '{}');
		END IF;
		IF closed IS NOT NULL THEN
			PERFORM tell_alerts(closed, 'alert.resolved', '{}');
		END IF;
		IF groups IS NOT NULL THEN
			PERFORM leave_groups(groups);
		END IF;
		IF moved IS NOT NULL THEN
			PERFORM settle_posture(moved);
		END IF;
	END LOOP;
END $$;

CREATE FUNCTION lock_verdicts(devices bigint[]) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
BEGIN
	PERFORM FROM device_verdict WHERE device_id = ANY (devices) ORDER BY device_id FOR NO KEY UPDATE;
END $$;

-- States as they just were stored: what the operator's policies say of them. Devices ascend.
CREATE FUNCTION judge_states(devices bigint[], states jsonb[]) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
	changed bigint[]; policies int[]; seen text[]; first bigint[];
BEGIN
	SELECT array_agg(device_id), array_agg(policy_id), array_agg(seen) INTO changed, policies, seen FROM (
		SELECT u.device_id, p.policy_id, o.seen
		FROM unnest(devices, states) WITH ORDINALITY AS u (device_id, state, n) JOIN device d ON d.device_id = u.device_id
			JOIN device_verdict v ON v.device_id = u.device_id
			CROSS JOIN (SELECT * FROM policy WHERE tenant_id IS NULL AND NOT builtin AND slot IS NOT NULL ORDER BY slot) p,
			LATERAL (SELECT CASE WHEN NOT p.enabled OR p.deleted_at IS NOT NULL OR NOT in_scope(p.models, p.firmwares, p.labels, d.hwmodel, d.swversion, d.labels)
					THEN '-'
				ELSE CASE jsonb_path_match(u.state, p.predicate, '{}', true) WHEN true THEN '1' WHEN false THEN '0' ELSE '?' END END AS seen OFFSET 0) o
		WHERE o.seen <> outcome_at(v.outcomes, p.slot) ORDER BY u.n, p.policy_id) x;
	IF changed IS NOT NULL THEN
		PERFORM apply_outcomes(changed, policies, seen);
	END IF;
	-- Without policies the first state changes no outcome.
	first := ARRAY(SELECT d.device_id FROM unnest(devices) WITH ORDINALITY u (device_id, n) JOIN device d ON d.device_id = u.device_id
		WHERE d.reasons = '{no-state}' ORDER BY u.n);
	IF cardinality(first) > 0 THEN
		PERFORM settle_posture(first);
	END IF;
	IF EXISTS (SELECT FROM judging WHERE tenant_id > 0) THEN
		UPDATE device_verdict v SET own_rules = 0, own_mark = v.own_mark + 1
			FROM (SELECT u.device_id FROM unnest(devices) WITH ORDINALITY u (device_id, n) ORDER BY n) u
			WHERE v.device_id = u.device_id AND EXISTS (SELECT FROM judging j WHERE j.tenant_id = v.tenant_id);
	END IF;
END $$;

-- Built-in policies, by their names: 1 it is so, 0 it is not.
CREATE FUNCTION mark_devices(devices bigint[], marks text[], seen text[]) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
	changed bigint[]; policies int[]; fresh text[];
BEGIN
	SELECT array_agg(device_id), array_agg(policy_id), array_agg(seen) INTO changed, policies, fresh FROM (
		SELECT DISTINCT ON (u.device_id, p.policy_id) u.device_id, p.policy_id, CASE WHEN p.enabled THEN u.seen ELSE '-' END AS seen
		FROM unnest(devices, marks, mark_devices.seen) WITH ORDINALITY AS u (device_id, mark, seen, n)
			JOIN policy p ON p.tenant_id IS NULL AND p.id = u.mark AND p.builtin JOIN device_verdict v ON v.device_id = u.device_id
		WHERE CASE WHEN p.enabled THEN u.seen ELSE '-' END <> replace(outcome_at(v.outcomes, p.slot), '-', '0')
		ORDER BY u.device_id, p.policy_id, u.n DESC) x;
	IF changed IS NOT NULL THEN
		PERFORM apply_outcomes(changed, policies, fresh);
	END IF;
END $$;

-- What time or further reports decided. How many.
CREATE FUNCTION judge_due(most int) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	changed bigint[]; policies int[]; seen text[];
BEGIN
	IF NOT EXISTS (SELECT FROM verdict_pending WHERE due_at <= now()) OR NOT pg_try_advisory_xact_lock(8259, 5) THEN
		RETURN 0;
	END IF;
	SELECT array_agg(device_id), array_agg(policy_id), array_agg(seen) INTO changed, policies, seen FROM (
		SELECT q.device_id, q.policy_id, CASE WHEN outcome_at(CASE WHEN p.tenant_id IS NULL THEN v.outcomes ELSE v.own_outcomes END, p.slot) IN ('p', 'h')
			THEN '1' ELSE '0' END AS seen
		FROM verdict_pending q JOIN policy p USING (policy_id) JOIN device_verdict v ON v.device_id = q.device_id
			LEFT JOIN device_hot h ON h.device_id = q.device_id
		WHERE q.due_at <= now() AND (q.reports <= 1 OR h.epoch <> q.epoch OR h.hi - q.seq + 1 >= q.reports) AND p.slot IS NOT NULL
		ORDER BY q.device_id, q.policy_id LIMIT most) x;
	IF changed IS NOT NULL THEN
		PERFORM apply_outcomes(changed, policies, seen);
	END IF;
	RETURN coalesce(cardinality(changed), 0);
END $$;

-- Some of the devices that the operator's present rules were not applied to yet: changed rules, devices approved, retired or labelled. How many.
CREATE FUNCTION judge_anew(most int) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
	now_at bigint; chosen bigint[]; staged bigint[]; states jsonb[]; changed bigint[]; policies int[];
BEGIN
	IF NOT pg_try_advisory_xact_lock(8259, 4) THEN
		RETURN 0;
	END IF;
	SELECT revision INTO now_at FROM judging WHERE tenant_id = 0;
	chosen := ARRAY(SELECT device_id FROM (SELECT device_id FROM device_verdict WHERE rules < now_at ORDER BY rules, device_id LIMIT most) x ORDER BY device_id);
	IF cardinality(chosen) = 0 THEN
		UPDATE judging SET ended_at = now(), done = greatest(done, total) WHERE tenant_id = 0 AND ended_at IS NULL AND revision = now_at;
		IF FOUND THEN
			-- No device has anything there any more.
			UPDATE policy SET slot = NULL WHERE tenant_id IS NULL AND deleted_at IS NOT NULL AND slot IS NOT NULL AND revision <= now_at;
		END IF;
		RETURN 0;
	END IF;
	UPDATE device_verdict v SET rules = now_at FROM (SELECT device_id FROM unnest(chosen) WITH ORDINALITY u (device_id, n) ORDER BY n) u
		WHERE v.device_id = u.device_id;
	-- What is no longer enabled, and all of a device that left.
	SELECT array_agg(device_id), array_agg(policy_id) INTO changed, policies FROM (
		SELECT v.device_id, p.policy_id FROM unnest(chosen) u (device_id) JOIN device d ON d.device_id = u.device_id JOIN device_verdict v ON v.device_id = u.device_id
			JOIN policy p ON p.slot IS NOT NULL AND (p.tenant_id IS NULL OR p.tenant_id = v.tenant_id)
		WHERE (d.lifecycle NOT IN ('active', 'pending') OR (p.builtin AND NOT p.enabled))
			AND outcome_at(CASE WHEN p.tenant_id IS NULL THEN v.outcomes ELSE v.own_outcomes END, p.slot) <> '-'
		ORDER BY 1, 2) x;
	IF changed IS NOT NULL THEN
		PERFORM apply_outcomes(changed, policies, array_fill('-'::text, ARRAY[cardinality(changed)]));
	END IF;
	-- What was held back while the device waited for approval.
	SELECT array_agg(device_id), array_agg(policy_id) INTO changed, policies FROM (
		SELECT q.device_id, q.policy_id FROM unnest(chosen) u (device_id) JOIN verdict_pending q ON q.device_id = u.device_id JOIN device d ON d.device_id = u.device_id
		WHERE q.due_at = 'infinity' AND d.lifecycle = 'active' ORDER BY 1, 2) x;
	IF changed IS NOT NULL THEN
		PERFORM apply_outcomes(changed, policies, array_fill('1'::text, ARRAY[cardinality(changed)]));
	END IF;
	-- Unpacked once, not for each policy.
	SELECT array_agg(s.device_id ORDER BY n), array_agg(s.state || '{}' ORDER BY n) INTO staged, states
		FROM unnest(chosen) WITH ORDINALITY u (device_id, n) JOIN device_state s ON s.device_id = u.device_id;
	IF staged IS NOT NULL THEN
		PERFORM judge_states(staged, states);
	END IF;
	PERFORM settle_posture(chosen);
	UPDATE judging SET done = done + cardinality(chosen) WHERE tenant_id = 0;
	RETURN cardinality(chosen);
END $$;

-- Tenants' own policies, one tenant, some of its devices at a time. The collector asks for work, has each policy's outcomes found under a time limit,
-- and gives them back.

-- Devices whose own policies are to be judged, each with the mark of its staleness.
CREATE FUNCTION own_work(tenant int, most int, OUT revision bigint, OUT devices bigint[], OUT marks bigint[]) LANGUAGE plpgsql STABLE SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
BEGIN
	SELECT j.revision INTO own_work.revision FROM judging j WHERE j.tenant_id = tenant;
	SELECT array_agg(x.device_id ORDER BY x.device_id), array_agg(x.own_mark ORDER BY x.device_id) INTO own_work.devices, own_work.marks
		FROM (SELECT v.device_id, v.own_mark FROM device_verdict v WHERE v.tenant_id = tenant AND v.own_rules < own_work.revision
			ORDER BY v.own_rules, v.device_id LIMIT most) x;
END $$;
-- A character for each device, in their order.
CREATE FUNCTION own_found(policy int, devices bigint[]) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
	SELECT string_agg(CASE WHEN NOT p.enabled OR p.deleted_at IS NOT NULL OR NOT in_scope(p.models, p.firmwares, p.labels, d.hwmodel, d.swversion, d.labels)
			OR s.device_id IS NULL THEN '-' WHEN p.struck_out_at IS NOT NULL THEN '?'
		ELSE CASE jsonb_path_match(s.state, p.predicate, '{}', true) WHEN true THEN '1' WHEN false THEN '0' ELSE '?' END END, '' ORDER BY u.n)
	FROM unnest(devices) WITH ORDINALITY u (device_id, n) JOIN policy p ON p.policy_id = $1 JOIN device d ON d.device_id = u.device_id
		LEFT JOIN device_state s ON s.device_id = u.device_id
$$;
-- `complete`: all of the tenant's policies are among them, so that these devices are done unless their state changed meanwhile.
CREATE FUNCTION own_judged(tenant int, revision bigint, devices bigint[], marks bigint[], policies int[], seen text[], complete boolean) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
	changed bigint[]; of_policy int[]; fresh text[];
BEGIN
	PERFORM lock_verdicts(devices);
	SELECT array_agg(device_id), array_agg(policy_id), array_agg(seen) INTO changed, of_policy, fresh FROM (
		SELECT u.device_id, p.policy_id, substr(f.seen, u.n::int, 1) AS seen
		FROM unnest(devices) WITH ORDINALITY u (device_id, n) JOIN device_verdict v ON v.device_id = u.device_id
			CROSS JOIN unnest(policies, own_judged.seen) f (policy_id, seen) JOIN policy p ON p.policy_id = f.policy_id AND p.tenant_id = tenant
		WHERE p.slot IS NOT NULL AND substr(f.seen, u.n::int, 1) <> outcome_at(v.own_outcomes, p.slot) ORDER BY u.n, p.policy_id) x;
	IF changed IS NOT NULL THEN
		PERFORM apply_outcomes(changed, of_policy, fresh);
	END IF;
	IF complete THEN
		UPDATE device_verdict v SET own_rules = own_judged.revision
			FROM (SELECT device_id, mark FROM unnest(devices, marks) WITH ORDINALITY u (device_id, mark, n) ORDER BY n) u
			WHERE v.device_id = u.device_id AND v.own_mark = u.mark;
		UPDATE judging SET done = done + cardinality(devices) WHERE tenant_id = tenant;
		PERFORM settle_posture(devices);
	END IF;
END $$;
-- Nothing is left to judge by this revision.
CREATE FUNCTION own_ended(tenant int, now_at bigint) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
BEGIN
	UPDATE judging SET ended_at = now(), done = greatest(done, total) WHERE tenant_id = tenant AND ended_at IS NULL AND revision = now_at;
	IF FOUND THEN
		UPDATE policy SET slot = NULL WHERE tenant_id = tenant AND deleted_at IS NOT NULL AND slot IS NOT NULL AND revision <= now_at;
		IF NOT EXISTS (SELECT FROM policy WHERE tenant_id = tenant AND struck_out_at IS NOT NULL AND deleted_at IS NULL) THEN
			PERFORM end_plain_alert('struck-out', tenant);
		END IF;
	END IF;
END $$;
-- It took too long. The third time it is struck out: unknown for all, until it is put again.
CREATE FUNCTION own_overrun(policy int) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	p policy;
BEGIN
	UPDATE policy x SET strikes = x.strikes + 1, struck_out_at = CASE WHEN x.strikes >= 2 THEN now() END
		WHERE x.policy_id = $1 AND x.struck_out_at IS NULL RETURNING * INTO p;
	IF p.struck_out_at IS NOT NULL THEN
		PERFORM open_plain_alert('struck-out', p.tenant_id, p.id);
		PERFORM tell_tenants(p.tenant_id, 'policy.changed', jsonb_build_object('policy', p.id, 'change', 'struck-out', 'by', 'fleetstate'));
		RETURN true;
	END IF;
	RETURN false;
END $$;

-- Alerts without a device: the system's own (tenant 0), or a tenant's. The reason is added to those of one that is open.
CREATE FUNCTION open_plain_alert(policy text, tenant int, reason text) RETURNS void LANGUAGE plpgsql SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	which int := (SELECT p.policy_id FROM policy p WHERE p.id = policy AND p.builtin AND p.enabled); a alert; kind text := 'alert.opened';
BEGIN
	IF which IS NULL THEN
		RETURN;
	END IF;
	UPDATE alert x SET reasons = CASE WHEN reason = ANY (x.reasons) OR cardinality(x.reasons) >= 16 THEN x.reasons ELSE x.reasons || reason END
		WHERE x.device_id = 0 AND x.policy_id = which AND x.tenant_id = tenant AND x.resolved_at IS NULL;
	IF FOUND THEN
		RETURN;
	END IF;
	UPDATE alert x SET resolved_at = NULL, resolved_by = NULL, reopened = x.reopened + 1, reopened_at = now(), acknowledged_at = NULL, acknowledged_by = NULL,
			reasons = ARRAY[reason]
		WHERE x.device_id = 0 AND x.alert_id = (SELECT max(b.alert_id) FROM alert b WHERE b.device_id = 0 AND b.policy_id = which AND b.tenant_id = tenant)
			AND x.resolved_at > now() - reopen_window() RETURNING * INTO a;
	IF FOUND THEN
		kind := 'alert.reopened';
	ELSE
		INSERT INTO alert (tenant_id, policy_id, reasons) VALUES (tenant, which, ARRAY[reason])
			ON CONFLICT (device_id, policy_id, tenant_id) WHERE resolved_at IS NULL DO NOTHING RETURNING * INTO a;
	END IF;
	IF a.alert_id IS NOT NULL THEN
		PERFORM tell_alerts(ARRAY[a.alert_id], kind, '{}');
	END IF;
END $$;
CREATE FUNCTION end_plain_alert(policy text, tenant int) RETURNS void LANGUAGE plpgsql SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	a alert;
BEGIN
	UPDATE alert x SET resolved_at = now() FROM policy p WHERE p.id = policy AND p.builtin AND x.device_id = 0 AND x.policy_id = p.policy_id
		AND x.tenant_id = tenant AND x.resolved_at IS NULL RETURNING x.* INTO a;
	IF FOUND THEN
		PERFORM tell_alerts(ARRAY[a.alert_id], 'alert.resolved', '{}');
	END IF;
END $$;

-- One of the system's own troubles, as one collector sees it; `detail` NULL: it sees it no more. Said again every so often while it lasts: what a
-- collector has not repeated for a minute was the last word of one that is gone.
CREATE FUNCTION report_trouble(policy text, reporter text, detail text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	which int := (SELECT p.policy_id FROM policy p WHERE p.id = report_trouble.policy AND p.builtin AND p.slot IS NULL);
BEGIN
	PERFORM pg_advisory_xact_lock(8259, 6);
	IF detail IS NULL THEN
		DELETE FROM trouble t WHERE t.policy_id = which AND (t.reporter = report_trouble.reporter OR t.seen_at < now() - interval '1 minute');
		IF NOT EXISTS (SELECT FROM trouble t WHERE t.policy_id = which) THEN
			PERFORM end_plain_alert(policy, 0);
		END IF;
	ELSE
		INSERT INTO trouble (policy_id, reporter, detail) VALUES (which, left(reporter, 255), left(detail, 1024))
			ON CONFLICT (policy_id, reporter) DO UPDATE SET seen_at = now(), detail = EXCLUDED.detail;
		PERFORM open_plain_alert(policy, 0, left(detail, 1024));
	END IF;
END $$;

-- Says that these are dealt with. A violation that stands is not undone by it and the posture stays; what no report can undo (a fork, a second epoch,
-- a revoked key, reports that fail verification) is, and the device is judged by the rest again.
CREATE FUNCTION alert_resolve(ids bigint[], filter jsonb, who text, comment text DEFAULT NULL) RETURNS bigint[]
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	mine bigint[] := select_alerts(ids, filter, false); whole bigint[]; devices bigint[]; policies int[]; groups bigint[];
BEGIN
	whole := ARRAY(SELECT a.alert_id FROM alert a WHERE (a.alert_id = ANY (mine) OR a.group_id = ANY (mine)) AND a.resolved_at IS NULL);
	UPDATE device_verdict v SET rev = v.rev + 1
		FROM (SELECT DISTINCT a.device_id FROM alert a WHERE a.alert_id = ANY (whole) AND a.device_id <> 0 ORDER BY 1) u WHERE v.device_id = u.device_id;
	PERFORM note_alerts(mine, who, 'resolve', comment);
	WITH r AS (
		UPDATE alert a SET resolved_at = now(), resolved_by = left(who, 255), comment = coalesce(nullif(alert_resolve.comment, ''), a.comment),
			devices = CASE WHEN a.device_id = 0 THEN 0 ELSE a.devices END
		WHERE a.alert_id = ANY (whole) AND a.resolved_at IS NULL RETURNING a.device_id, a.policy_id, a.group_id
	)
	SELECT array_agg(r.device_id ORDER BY r.device_id, r.policy_id) FILTER (WHERE p.builtin AND p.posture = 'untrusted' AND r.device_id <> 0),
		array_agg(r.policy_id ORDER BY r.device_id, r.policy_id) FILTER (WHERE p.builtin AND p.posture = 'untrusted' AND r.device_id <> 0),
		array_agg(r.group_id) FILTER (WHERE r.group_id <> ALL (mine))
		INTO devices, policies, groups FROM r JOIN policy p ON p.policy_id = r.policy_id;
	PERFORM tell_alerts(mine, 'alert.resolved', jsonb_strip_nulls(jsonb_build_object('by', who, 'comment', comment)));
	PERFORM leave_groups(groups);
	IF devices IS NOT NULL THEN
		PERFORM apply_outcomes(devices, policies, array_fill('0'::text, ARRAY[cardinality(devices)]));
	END IF;
	RETURN mine;
END $$;

-- Packs: {"pack", "title", "policies": [...], "not_judged": [{"element", "why"}]}, each policy as policy_put takes it, with "examples": one document that
-- violates it, one that meets it, one of which it can't be said. For the command line, so with the caller's rights.

-- Puts all of a pack and deletes what the pack had before and has no more. For the tenant that is signed in; without one, for everyone.
CREATE FUNCTION pack_apply(pack jsonb, who text) RETURNS TABLE (policy text, change text)
	LANGUAGE plpgsql SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	p jsonb; name text; everyone boolean := tenant_context() IS NULL; before bigint; put record;
BEGIN
	PERFORM refuse_others(pack, '{pack,title,policies,not_judged}', 'pack');
	name := read_text(pack, 'pack', 128, true);
	IF jsonb_typeof(pack -> 'policies') IS DISTINCT FROM 'array' THEN
		PERFORM refuse('policies: a list');
	END IF;
	FOR p IN SELECT x FROM jsonb_array_elements(pack -> 'policies') x LOOP
		before := (SELECT o.revision FROM policy o WHERE o.id = p ->> 'id' AND o.tenant_id IS NOT DISTINCT FROM tenant_context());
		BEGIN
			SELECT * INTO put FROM policy_put(p ->> 'id', p || jsonb_build_object('pack', name), who, everyone);
		EXCEPTION WHEN SQLSTATE 'FS400' OR SQLSTATE 'FS409' THEN
			RAISE EXCEPTION '%: %', coalesce(p ->> 'id', 'a policy without id'), SQLERRM USING ERRCODE = 'FS400';
		END;
		RETURN QUERY SELECT p ->> 'id', CASE WHEN put.created THEN 'created' WHEN put.revision = before THEN 'unchanged' ELSE 'changed' END;
	END LOOP;
	FOR policy IN SELECT o.id FROM policy o WHERE o.pack = name AND o.tenant_id IS NOT DISTINCT FROM tenant_context() AND o.deleted_at IS NULL
		AND NOT o.builtin AND NOT EXISTS (SELECT FROM jsonb_array_elements(pack_apply.pack -> 'policies') x WHERE x ->> 'id' = o.id) ORDER BY 1 LOOP
		PERFORM policy_delete(policy, who, everyone);
		change := 'deleted';
		RETURN NEXT;
	END LOOP;
END $$;
-- What each policy says of its own examples; `wrong`: NULL, or what is not as it should be.
CREATE FUNCTION pack_test(pack jsonb) RETURNS TABLE (policy text, wrong text) LANGUAGE plpgsql SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	p jsonb; bad record; e record; said boolean;
BEGIN
	PERFORM refuse_others(pack, '{pack,title,policies,not_judged}', 'pack');
	FOR p IN SELECT x FROM jsonb_array_elements(pack -> 'policies') x LOOP
		policy := p ->> 'id';
		wrong := NULL;
		SELECT * INTO bad FROM predicate_fault(p ->> 'when');
		IF bad.fault IS NOT NULL THEN
			wrong := format('when: %s at position %s', bad.fault, bad.place);
		ELSE
			FOR e IN SELECT * FROM (VALUES ('violates', true), ('meets', false), ('unknown', NULL)) x (name, expected) LOOP
				said := jsonb_path_match(p -> 'examples' -> e.name, (p ->> 'when')::jsonpath, '{}', true);
				IF p -> 'examples' -> e.name IS NULL THEN
					wrong := concat_ws('; ', wrong, 'no example "' || e.name || '"');
				ELSIF said IS DISTINCT FROM e.expected THEN
					wrong := concat_ws('; ', wrong, format('the example "%s" %s', e.name,
						CASE said WHEN true THEN 'violates it' WHEN false THEN 'meets it' ELSE 'leaves it unknown' END));
				END IF;
			END LOOP;
			IF jsonb_path_match('{}', (p ->> 'when')::jsonpath, '{}', true) IS NOT NULL THEN
				wrong := concat_ws('; ', wrong, 'says something of an empty document');
			END IF;
		END IF;
		RETURN NEXT;
	END LOOP;
END $$;

REVOKE ALL ON FUNCTION pack_apply, pack_test, put_outcomes, settle_posture, group_alerts, leave_groups, apply_outcomes, lock_verdicts, judge_states, mark_devices, judge_due, judge_anew, own_work,
	own_found, own_judged, own_ended, own_overrun, open_plain_alert, end_plain_alert, report_trouble, alert_resolve FROM PUBLIC;
GRANT EXECUTE ON FUNCTION lock_verdicts, judge_states, mark_devices, judge_due, judge_anew, own_work, own_found, own_judged, own_ended, own_overrun, report_trouble
	TO fleetstate_ingest;
GRANT EXECUTE ON FUNCTION alert_resolve TO fleetstate_api;

-- Who stands already as something is so by these rules too.
INSERT INTO judging (tenant_id, revision, total) SELECT 0, (SELECT last_value FROM policy_revision), (SELECT count(*) FROM device);
SELECT mark_devices(array_agg(device_id), array_agg(mark), array_agg('1'::text))
	FROM (SELECT device_id, unnest(CASE posture WHEN 'silent' THEN '{silent}' ELSE reasons END) AS mark FROM device
		WHERE posture IN ('untrusted', 'silent') ORDER BY device_id) x HAVING count(*) > 0;
