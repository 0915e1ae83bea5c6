-- Personal facts, as a tenant will have them: what of its devices' reports is derived and shown keeps them, has them hashed, or leaves them out. The signed
-- bytes stay what they are, for its administrators.
SET search_path = fleetstate, pg_catalog;

ALTER TABLE tenant ADD personal text NOT NULL DEFAULT 'keep' CHECK (personal IN ('keep', 'hash', 'omit'));
-- How it was stored.
ALTER TABLE device_state ADD personal text NOT NULL DEFAULT 'keep';
ALTER TABLE state_history ADD personal text NOT NULL DEFAULT 'keep';
-- What a tenant's names are hashed with (RFC 2104: the key with either pad). It is made once and stays, so that a name is the same whenever it is hashed.
CREATE TABLE tenant_secret (tenant_id int PRIMARY KEY REFERENCES tenant, inner_pad bytea NOT NULL, outer_pad bytea NOT NULL);
-- Tenants of which what is stored is brought to their way. The states of devices up to this one are; and, of the events that were told before, those up
-- to this place in the feed.
CREATE TABLE tenant_veiling (
	tenant_id int PRIMARY KEY REFERENCES tenant,
	device_id bigint NOT NULL DEFAULT 0,
	position bigint NOT NULL DEFAULT 0,
	last_event bigint NOT NULL	-- events up to this one were told before
);
DO $$
DECLARE t text;
BEGIN
	FOREACH t IN ARRAY ARRAY['tenant_secret', 'tenant_veiling'] LOOP
		EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
		EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
		EXECUTE format('CREATE POLICY owner ON %I TO fleetstate_owner USING (true)', t);
	END LOOP;
END $$;

-- The facts that facts.def marks, and words of theirs that name nobody; of one whose texts say something of somebody, what follows ": " is that.
CREATE FUNCTION personal_facts() RETURNS TABLE (topic text, name text, words text[], says boolean) LANGUAGE sql IMMUTABLE AS $$
	VALUES ('device', 'hostname', '{}'::text[], false),
		('configuration', 'administrators', '{sudo,doas,polkit,group,for,some,commands,without,password}', false),
		('access', 'usable', '{}', false),
		('access', 'empty_password', '{}', false),
		('access', 'second_root', '{}', false),
		('access', 'weak_password_hash', '{}', false),
		('access', 'default_password', '{}', false),
		('access', 'ssh_match', '{user,group,host,address,localaddress,localport,rdomain,tagged,canonical,final}', true)
$$;
-- The parts of devices' events that events.def marks. Of a kind that is not known any part may be.
CREATE FUNCTION personal_parts() RETURNS TABLE (kind text, name text) LANGUAGE sql IMMUTABLE AS $$
	VALUES ('login', 'account'), ('login', 'address'), ('login-failed', 'account'), ('login-failed', 'address'),
		('privilege', 'account'), ('privilege', 'target'), ('privilege-refused', 'account'), ('privilege-refused', 'target')
$$;

CREATE FUNCTION make_tenant_secret(tenant int) RETURNS void LANGUAGE plpgsql SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	-- The server's strong random numbers: 244 bits of them.
	key bytea := sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())) || decode(repeat('00', 32), 'hex');
	inner_pad bytea := key; outer_pad bytea := key;
BEGIN
	FOR i IN 0..63 LOOP
		inner_pad := set_byte(inner_pad, i, get_byte(key, i) # 54);
		outer_pad := set_byte(outer_pad, i, get_byte(key, i) # 92);
	END LOOP;
	INSERT INTO tenant_secret VALUES (tenant, inner_pad, outer_pad) ON CONFLICT DO NOTHING;
END $$;

-- As the emitter prints its own.
CREATE FUNCTION veil_word(secret tenant_secret, word text) RETURNS text LANGUAGE sql STABLE AS $$
	SELECT 'hmac:' || left(encode(sha256(secret.outer_pad || sha256(secret.inner_pad || convert_to(word, 'UTF8'))), 'hex'), 16)
$$;
CREATE FUNCTION is_veiled(word text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT word ~ '^hmac:[0-9a-f]{16}$' $$;
-- In plpgsql, which plans it once.
CREATE FUNCTION veil_text(secret tenant_secret, text text, words text[], says boolean) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
	len int := coalesce(CASE WHEN says THEN length(substring(text from '^(.*): ')) END, length(text));
BEGIN
	RETURN coalesce((SELECT string_agg(CASE WHEN w = '' OR lower(w) = ANY (words) THEN w ELSE veil_word(secret, w) END, ' ' ORDER BY n)
		FROM string_to_table(left(text, len), ' ') WITH ORDINALITY u (w, n)), '') || substr(text, len + 1);
END $$;

-- A state document as its tenant will have it, which is not as it is. Lists are in the order of what is told: that of the names would say something of them.
CREATE FUNCTION veil_state(state jsonb, tenant int, way text) RETURNS jsonb LANGUAGE plpgsql STABLE SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	s tenant_secret; f record; v jsonb;
BEGIN
	IF way = 'hash' THEN
		SELECT * INTO STRICT s FROM tenant_secret x WHERE x.tenant_id = tenant;
	END IF;
	FOR f IN SELECT * FROM personal_facts() LOOP
		v := state -> f.topic -> f.name;
		IF v IS NULL OR jsonb_typeof(v) IN ('number', 'boolean') THEN
			CONTINUE;
		ELSIF way = 'hash' AND jsonb_typeof(v) = 'string' THEN
			state := jsonb_set(state, ARRAY[f.topic, f.name], to_jsonb(veil_text(s, v #>> '{}', f.words, f.says)));
		ELSIF way = 'hash' AND jsonb_typeof(v) = 'array' AND NOT jsonb_path_exists(v, 'strict $[*] ? (@.type() != "string")') THEN
			state := jsonb_set(state, ARRAY[f.topic, f.name], (SELECT coalesce(jsonb_agg(u.t ORDER BY u.t COLLATE "C"), '[]')
				FROM (SELECT veil_text(s, x, f.words, f.says) AS t FROM jsonb_array_elements_text(v) x) u));
		ELSE
			state := state #- ARRAY[f.topic, f.name];
			IF state -> f.topic = '{}' THEN
				state := state - f.topic;
			END IF;
			state := state || jsonb_build_object('unknown', coalesce(state -> 'unknown', '{}') || jsonb_build_object(f.topic || '.' || f.name,
				'personal: left out by the tenant' || CASE jsonb_typeof(v) WHEN 'array' THEN format(', %s of them', jsonb_array_length(v)) ELSE '' END));
		END IF;
	END LOOP;
	RETURN state;
END $$;
-- The same for what a device tells that happened on it. `once_more`: it may have been hashed before, which stays, as does what a device told that looks so.
CREATE FUNCTION veil_event(data jsonb, tenant int, way text, once_more boolean) RETURNS jsonb LANGUAGE plpgsql STABLE SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	s tenant_secret; p text;
BEGIN
	IF way = 'omit' THEN
		RETURN data - 'subject' - ARRAY(SELECT x.name FROM personal_parts() x WHERE x.kind = data ->> 'kind');
	END IF;
	SELECT * INTO STRICT s FROM tenant_secret x WHERE x.tenant_id = tenant;
	FOR p IN SELECT x.name FROM personal_parts() x WHERE x.kind = data ->> 'kind' AND data ? x.name AND NOT (once_more AND is_veiled(data ->> x.name)) LOOP
		data := jsonb_set(data, ARRAY[p], to_jsonb(veil_word(s, data ->> p)));
	END LOOP;
	IF data ? 'subject' THEN
		data := jsonb_set(data, '{subject}', (SELECT coalesce(jsonb_agg(CASE WHEN once_more AND is_veiled(u.t) THEN u.t ELSE veil_word(s, u.t) END ORDER BY u.n), '[]')
			FROM jsonb_array_elements_text(data -> 'subject') WITH ORDINALITY u (t, n)));
	END IF;
	RETURN data;
END $$;

-- Whoever stores something shares this lock until that is committed; who changes a tenant's way holds it alone. So what is stored after a change was
-- answered is as it says, and what was stored before can be seen by whoever brings it to that.
CREATE FUNCTION lock_personal(alone boolean) RETURNS void LANGUAGE sql AS $$
	SELECT CASE WHEN alone THEN pg_advisory_xact_lock(8259, 20) ELSE pg_advisory_xact_lock_shared(8259, 20) END
$$;
-- A tenant's way from here on; it stands in its row when that is written.
CREATE FUNCTION tenant_personal(t tenant, way text, by text) RETURNS void LANGUAGE plpgsql SET search_path = fleetstate, pg_catalog, pg_temp AS $$
BEGIN
	PERFORM lock_personal(true);
	PERFORM make_tenant_secret(t.tenant_id) WHERE way = 'hash';
	DELETE FROM tenant_veiling x WHERE x.tenant_id = t.tenant_id;
	INSERT INTO tenant_veiling (tenant_id, last_event) SELECT t.tenant_id, coalesce((SELECT max(e.event_id) FROM event e), 0) WHERE way <> 'keep';
	INSERT INTO event (tenant_id, type, data) VALUES (t.tenant_id, 'tenant.personal', jsonb_build_object('personal', way, 'previous', t.personal, 'by', left(by, 255)));
END $$;
-- Changes a tenant of the caller's: {"legal_hold": {"reason": "..."}, "retention": {"quiet_s": 86400, "sections_s": null, "history_s": null}, "personal":
-- "keep", "hash" or "omit"}; the first two may be null; what is not named stays. Retention is the operator's, who pays for the room. `expected` as in
-- device_change. Whether there is one. Fails with FS400, FS403 and FS412.
CREATE FUNCTION tenant_change(wanted text, changes jsonb, by text, expected bigint) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	t tenant; n tenant; r jsonb := changes -> 'retention';
BEGIN
	PERFORM refuse_others(changes, '{legal_hold,personal,retention}', 'tenant');
	IF changes = '{}' THEN
		PERFORM refuse('tenant: legal_hold, personal or retention is to change');
	ELSIF changes ? 'retention' AND coalesce(role_context() <> 'operator', tenant_context() IS NOT NULL) THEN
		RAISE EXCEPTION 'How long a tenant''s reports are kept is the operator''s to say.' USING ERRCODE = 'FS403';
	ELSIF r = 'null' THEN
		r := retention_json(NULL, NULL, NULL);
	ELSIF changes ? 'retention' THEN
		PERFORM refuse_others(r, '{quiet_s,sections_s,history_s}', 'retention');
		IF r = '{}' THEN
			PERFORM refuse('retention: quiet_s, sections_s or history_s is to change');
		END IF;
	END IF;
	IF changes ? 'personal' AND changes -> 'personal' NOT IN ('"keep"', '"hash"', '"omit"') THEN
		PERFORM refuse('personal: keep, hash or omit');
	END IF;
	SELECT * INTO t FROM tenant x WHERE x.id = wanted AND acts_on(x.tenant_id) FOR NO KEY UPDATE;
	n := t;
	n.hold_reason := CASE WHEN changes ? 'legal_hold' THEN read_hold(changes -> 'legal_hold') ELSE t.hold_reason END;
	n.personal := coalesce(changes ->> 'personal', t.personal);
	n.quiet_s := read_seconds(r, 'quiet_s', t.quiet_s);
	n.sections_s := read_seconds(r, 'sections_s', t.sections_s);
	n.history_s := read_seconds(r, 'history_s', t.history_s);
	IF t.tenant_id IS NULL THEN
		RETURN false;
	ELSIF expected <> t.revision THEN
		RAISE EXCEPTION 'The tenant is at revision %, not %.', t.revision, expected USING ERRCODE = 'FS412';
	ELSIF n IS NOT DISTINCT FROM t THEN
		RETURN true;
	END IF;
	PERFORM lock_holds(false);
	IF n.hold_reason IS DISTINCT FROM t.hold_reason THEN
		n.hold_since := CASE WHEN n.hold_reason IS NOT NULL THEN now() END;
		n.hold_by := CASE WHEN n.hold_reason IS NOT NULL THEN left(by, 255) END;
		INSERT INTO event (tenant_id, type, data) VALUES (t.tenant_id, 'tenant.hold',
			jsonb_build_object('change', CASE WHEN n.hold_reason IS NULL THEN 'released' ELSE 'held' END, 'why', coalesce(n.hold_reason, t.hold_reason), 'by', left(by, 255)));
	END IF;
	IF (n.quiet_s, n.sections_s, n.history_s) IS DISTINCT FROM (t.quiet_s, t.sections_s, t.history_s) THEN
		-- What is past a time that became shorter is looked for from the first day on.
		DELETE FROM tenant_expiry x WHERE x.tenant_id = t.tenant_id AND CASE WHEN x.sections THEN n.sections_s IS DISTINCT FROM t.sections_s ELSE n.quiet_s IS DISTINCT FROM t.quiet_s END;
		-- What is not known any more stays so.
		INSERT INTO tenant_history (tenant_id, at) VALUES (t.tenant_id, history_begin(t.tenant_id)) ON CONFLICT (tenant_id) DO UPDATE SET at = EXCLUDED.at;
		INSERT INTO event (tenant_id, type, data) VALUES (t.tenant_id, 'tenant.retention', retention_json(n.quiet_s, n.sections_s, n.history_s) || jsonb_build_object('by', left(by, 255)));
	END IF;
	-- At last, as all that is stored waits for it.
	IF n.personal <> t.personal THEN
		PERFORM tenant_personal(t, n.personal, by);
	END IF;
	UPDATE tenant x SET hold_reason = n.hold_reason, hold_since = n.hold_since, hold_by = n.hold_by, personal = n.personal, quiet_s = n.quiet_s,
		sections_s = n.sections_s, history_s = n.history_s, revision = x.revision + 1 WHERE x.tenant_id = t.tenant_id;
	RETURN true;
END $$;

-- Events of the feed that were told before, after the states; some at a time. In the feed they stand before all that were told since. How many were looked
-- at, or one; 0: some have no place yet.
CREATE FUNCTION veil_events(t tenant, v tenant_veiling) RETURNS bigint LANGUAGE plpgsql SET search_path = fleetstate, pg_catalog, pg_temp
	SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
	pending boolean := EXISTS (SELECT FROM event e WHERE e.position IS NULL AND e.event_id <= v.last_event);
	top bigint; n bigint; done boolean;
BEGIN
	SELECT max(e.position), count(*), NOT pending AND coalesce(min(e.event_id) > v.last_event, true) INTO top, n, done
		FROM (SELECT x.position, x.event_id FROM event x WHERE x.tenant_id = t.tenant_id AND x.position > v.position ORDER BY x.position LIMIT 1000) e;
	IF done THEN
		DELETE FROM tenant_veiling x WHERE x.tenant_id = t.tenant_id;
		RETURN 1;
	END IF;
	UPDATE event e SET data = veil_event(e.data, e.tenant_id, t.personal, true) WHERE e.tenant_id = t.tenant_id AND e.position > v.position
		AND e.position <= top AND e.event_id <= v.last_event AND e.type LIKE 'device.event.%';
	UPDATE tenant_veiling x SET position = top WHERE x.tenant_id = t.tenant_id AND n > 0;
	RETURN n;
END $$;
-- Brings what was stored before to its tenant's way: the states of some devices, or at most so many rows of their history, or some events. What is hashed
-- may still be left out; what is hashed or left out stays so. 0: there are none for now, or another collector is at it.
CREATE FUNCTION veil_stored(most int) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp
	SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
	v tenant_veiling; t tenant; chosen bigint[]; stale bigint[]; n bigint;
BEGIN
	IF NOT pg_try_advisory_xact_lock(8259, 21) THEN
		RETURN 0;
	END IF;
	-- Nobody changes it meanwhile.
	SELECT x.* INTO t FROM tenant x WHERE x.tenant_id = (SELECT min(y.tenant_id) FROM tenant_veiling y) FOR SHARE;
	SELECT * INTO v FROM tenant_veiling x WHERE x.tenant_id = t.tenant_id;
	IF NOT FOUND THEN
		RETURN 0;
	END IF;
	chosen := ARRAY(SELECT d.device_id FROM device d WHERE d.tenant_id = v.tenant_id AND d.device_id > v.device_id ORDER BY d.device_id LIMIT 100);
	IF chosen = '{}' THEN
		RETURN veil_events(t, v);
	END IF;
	-- Their verdicts are of what is stored; the locks come in the order in which whoever stores and judges takes them.
	stale := ARRAY(SELECT s.device_id FROM device_state s WHERE s.device_id = ANY (chosen) AND s.tenant_id = v.tenant_id AND s.personal IN ('keep', 'hash')
		AND s.personal <> t.personal ORDER BY 1);
	IF stale <> '{}' THEN
		PERFORM lock_verdicts(stale);
		UPDATE device_state s SET state = veil_state(s.state, s.tenant_id, t.personal), personal = t.personal
			WHERE s.device_id = ANY (stale) AND s.tenant_id = v.tenant_id AND s.personal IN ('keep', 'hash') AND s.personal <> t.personal;
		PERFORM judge_again(stale, (SELECT j.revision FROM judging j WHERE j.tenant_id = 0));
		-- Their history without these locks.
		RETURN cardinality(stale);
	END IF;
	UPDATE state_history h SET state = veil_state(h.state, h.tenant_id, t.personal), personal = t.personal
		FROM (SELECT x.device_id, x.valid_from, x.epoch, x.seq FROM state_history x WHERE x.device_id = ANY (chosen) AND x.tenant_id = v.tenant_id
			AND x.personal IN ('keep', 'hash') AND x.personal <> t.personal LIMIT most) o
		WHERE h.device_id = o.device_id AND h.valid_from = o.valid_from AND h.epoch = o.epoch AND h.seq = o.seq;
	GET DIAGNOSTICS n = ROW_COUNT;
	IF n < most THEN
		UPDATE tenant_veiling x SET device_id = chosen[cardinality(chosen)] WHERE x.tenant_id = v.tenant_id;
	END IF;
	RETURN n + 1;
END $$;

-- Whether the caller may see what a tenant's devices signed, which has the personal facts as they are.
CREATE FUNCTION sees_evidence() RETURNS boolean LANGUAGE sql STABLE SET search_path = fleetstate, pg_catalog, pg_temp AS $$
	SELECT coalesce(role_context() IN ('admin', 'operator'), false)
		OR NOT EXISTS (SELECT FROM tenant t WHERE t.tenant_id = tenant_context() AND t.personal <> 'keep')
$$;
-- The same; fails with FS403.
CREATE FUNCTION evidence_allowed() RETURNS boolean LANGUAGE plpgsql STABLE SET search_path = fleetstate, pg_catalog, pg_temp AS $$
BEGIN
	IF NOT sees_evidence() THEN
		RAISE EXCEPTION 'The signed bytes have the personal facts that the tenant does not keep: role admin.' USING ERRCODE = 'FS403';
	END IF;
	RETURN true;
END $$;
REVOKE ALL ON FUNCTION make_tenant_secret, veil_word, veil_text, veil_state, veil_event, lock_personal, tenant_personal, tenant_change, veil_events, veil_stored FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenant_change TO fleetstate_api;
GRANT EXECUTE ON FUNCTION lock_personal, veil_state, veil_event, veil_stored TO fleetstate_ingest;
