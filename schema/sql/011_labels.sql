-- Labels of devices, "key=value": what policies, maintenance windows and the list of devices can be narrowed to.
SET search_path = fleetstate, pg_catalog;

-- All that the operator's rules say of these devices, anew. They ascend.
CREATE FUNCTION judge_again(chosen bigint[], now_at bigint) RETURNS void LANGUAGE plpgsql SET search_path = fleetstate, pg_catalog, pg_temp
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
	staged bigint[]; states jsonb[]; changed bigint[]; policies int[];
BEGIN
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
END $$;
-- Some of the devices that the operator's present rules were not applied to yet: changed rules, devices approved, retired or labelled. How many.
CREATE OR REPLACE FUNCTION judge_anew(most int) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
	now_at bigint; chosen bigint[];
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
	PERFORM judge_again(chosen, now_at);
	UPDATE judging SET done = done + cardinality(chosen) WHERE tenant_id = 0;
	RETURN cardinality(chosen);
END $$;

-- What maintenance holds back is looked at again, soon: of a tenant, or of one of its devices. What waits for time or reports goes on waiting.
CREATE FUNCTION recheck_held(tenant int, device bigint) RETURNS void LANGUAGE plpgsql SET search_path = fleetstate, pg_catalog, pg_temp AS $$
BEGIN
	PERFORM lock_alerts();
	UPDATE verdict_pending q SET due_at = now() FROM policy p, device_verdict v
		WHERE q.tenant_id = tenant AND (device IS NULL OR q.device_id = device) AND q.due_at > now() AND q.due_at < 'infinity'
			AND p.policy_id = q.policy_id AND v.device_id = q.device_id
			AND outcome_at(CASE WHEN p.tenant_id IS NULL THEN v.outcomes ELSE v.own_outcomes END, p.slot) = 'h';
END $$;
-- Makes one (id NULL) or replaces one of the signed-in tenant: {"title", "from", "until", "scope": {"model", "firmware", "label", "ueid"}}. NULL: there
-- is no such window. Fails with FS400.
CREATE OR REPLACE FUNCTION maintenance_put(id bigint, document jsonb, who text) RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	m maintenance; scope jsonb;
BEGIN
	PERFORM refuse_others(document, '{id,title,from,until,scope}', 'maintenance');
	m.title := read_text(document, 'title', 255, true);
	scope := coalesce(nullif(document -> 'scope', 'null'), '{}');
	PERFORM refuse_others(scope, '{model,firmware,label,ueid}', 'scope');
	BEGIN
		m.from_at := coalesce(read_text(document, 'from', 64, false)::timestamptz, now());
		m.until_at := read_text(document, 'until', 64, true)::timestamptz;
	EXCEPTION WHEN data_exception THEN
		PERFORM refuse('from, until: times as RFC 3339 writes them');
	END;
	IF m.until_at <= m.from_at OR m.until_at > m.from_at + interval '90 days' THEN
		PERFORM refuse('until: after from, by at most 90 days');
	END IF;
	IF EXISTS (SELECT FROM unnest(read_texts(scope, 'ueid')) u WHERE u !~ '^[0-9a-f]{34}$') THEN
		PERFORM refuse('ueid: 34 hex digits');
	END IF;
	m.ueids := (SELECT array_agg(decode(u, 'hex')) FROM unnest(read_texts(scope, 'ueid')) u);
	IF id IS NULL THEN
		INSERT INTO maintenance (tenant_id, title, from_at, until_at, models, firmwares, labels, ueids, made_by)
			VALUES (tenant_context(), m.title, m.from_at, m.until_at, read_texts(scope, 'model'), read_texts(scope, 'firmware'),
				read_texts(scope, 'label'), m.ueids, left(who, 255)) RETURNING maintenance_id INTO id;
	ELSE
		UPDATE maintenance SET title = m.title, from_at = m.from_at, until_at = m.until_at, models = read_texts(scope, 'model'),
			firmwares = read_texts(scope, 'firmware'), labels = read_texts(scope, 'label'), ueids = m.ueids, made_by = left(who, 255), made_at = now()
			WHERE maintenance_id = id AND tenant_id = tenant_context();
		IF NOT FOUND THEN
			RETURN NULL;
		END IF;
	END IF;
	PERFORM recheck_held(tenant_context(), NULL);
	PERFORM tell_tenants(tenant_context(), 'maintenance.changed', jsonb_build_object('maintenance', id, 'title', m.title, 'from', rfc3339(m.from_at),
		'until', rfc3339(m.until_at), 'by', who));
	RETURN id;
END $$;
-- Whether there was one. What it held back opens soon.
CREATE OR REPLACE FUNCTION maintenance_delete(id bigint, who text) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
BEGIN
	DELETE FROM maintenance WHERE maintenance_id = id AND tenant_id = tenant_context();
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	PERFORM recheck_held(tenant_context(), NULL);
	PERFORM tell_tenants(tenant_context(), 'maintenance.changed', jsonb_build_object('maintenance', id, 'change', 'deleted', 'by', who));
	RETURN true;
END $$;

-- Changes a device's labels: {"site": "berlin", "old": null} sets one and takes one away; those that are not named stay. The operator's rules are applied
-- in the same transaction, tenants' own a moment later. Whether the caller has such a device. Fails with FS400.
CREATE FUNCTION device_label(name bytea, changes jsonb, who text) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	d device; fresh text[]; word text;
BEGIN
	IF jsonb_typeof(changes) IS DISTINCT FROM 'object' THEN
		PERFORM refuse('labels: an object');
	END IF;
	word := (SELECT key FROM jsonb_object_keys(changes) key WHERE key !~ '^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$' ORDER BY key LIMIT 1);
	IF word IS NOT NULL THEN
		PERFORM refuse('labels: a key has 1 to 63 lower-case letters, digits, dots, hyphens and underscores, and begins and ends with a letter or digit');
	END IF;
	word := (SELECT key FROM jsonb_each(changes) x (key, value) WHERE value <> 'null' AND (jsonb_typeof(value) <> 'string'
		OR value #>> '{}' !~ '^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$') ORDER BY key LIMIT 1);
	IF word IS NOT NULL THEN
		PERFORM refuse(format('labels: %s: a value has 1 to 63 letters, digits, dots, hyphens and underscores, and begins and ends with a letter or digit; '
			'null takes the label away', word));
	END IF;
	SELECT * INTO d FROM device x WHERE x.ueid = name AND acts_on(x.tenant_id);
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	PERFORM lock_verdicts(ARRAY[d.device_id]);
	SELECT * INTO d FROM device x WHERE x.device_id = d.device_id AND acts_on(x.tenant_id) FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	fresh := ARRAY(SELECT l FROM unnest(d.labels) l WHERE NOT changes ? split_part(l, '=', 1)
		UNION ALL SELECT key || '=' || (value #>> '{}') FROM jsonb_each(changes) x (key, value) WHERE value <> 'null' ORDER BY 1);
	IF cardinality(fresh) > 16 THEN
		PERFORM refuse('labels: at most 16');
	END IF;
	IF fresh = d.labels THEN
		RETURN true;
	END IF;
	UPDATE device x SET labels = fresh WHERE x.device_id = d.device_id;
	PERFORM judge_again(ARRAY[d.device_id], (SELECT j.revision FROM judging j WHERE j.tenant_id = 0)), recheck_held(d.tenant_id, d.device_id);
	INSERT INTO event (tenant_id, type, ueid, data) VALUES (d.tenant_id, 'device.labels', d.ueid, jsonb_build_object('labels', fresh, 'by', left(who, 255)));
	RETURN true;
END $$;
-- "site:berlin", or "site" for whatever value.
CREATE FUNCTION has_label(labels text[], wanted text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT CASE WHEN strpos(wanted, ':') > 0 THEN regexp_replace(wanted, ':', '=') = ANY (labels)
		ELSE EXISTS (SELECT FROM unnest(labels) l WHERE split_part(l, '=', 1) = wanted) END
$$;
REVOKE ALL ON FUNCTION judge_again, recheck_held, device_label FROM PUBLIC;
GRANT EXECUTE ON FUNCTION device_label TO fleetstate_api;

-- As before, with the labels as a column to filter by.
CREATE OR REPLACE VIEW device_item WITH (security_invoker = true) AS
SELECT d.device_id, d.tenant_id, d.ueid, d.lifecycle, d.posture, d.hwmodel, d.swname, d.swversion, d.serial, s.inventory_digest,
	json_build_object('ueid', encode(d.ueid, 'hex'), 'tenant', t.id, 'serial', d.serial, 'vendor', d.vendor, 'hwmodel', d.hwmodel,
		'hwversion', d.hwversion, 'oemid', d.oemid, 'swname', d.swname, 'swversion', d.swversion, 'kernel', d.kernel,
		'lifecycle', d.lifecycle, 'posture', d.posture, 'reasons', d.reasons, 'posture_since', rfc3339(d.posture_since),
		'first_seen', rfc3339(d.first_seen), 'last_seen', rfc3339(h.last_seen),
		'epoch', CASE WHEN h.hi > 0 THEN epoch_hex(h.epoch) END, 'seq', nullif(h.hi, 0), 'interval_s', nullif(h.interval_s, 0),
		'support_until', d.support_until, 'end_of_life', d.end_of_life,
		'state_digest', encode(s.state_digest, 'hex'), 'inventory_digest', encode(s.inventory_digest, 'hex'),
		'unknowns', d.unknowns, 'labels', d.labels)::text AS item, d.labels
FROM device d JOIN tenant t ON t.tenant_id = d.tenant_id
	LEFT JOIN device_hot h ON h.device_id = d.device_id
	LEFT JOIN device_state s ON s.device_id = d.device_id;
