-- Verdicts: policies, what they say of each device, alerts, maintenance windows. How a verdict comes about is in 005_judgement.sql.
--
-- A policy states a violation as an SQL/JSON path over the state document. Its outcome for a device is one character of a string that has a place
-- (slot) for each policy, so that a state that changed costs one comparison and alerts are touched only where a character did:
--	0 met		1 violated, its alert is (or was) open		? not known
--	p violated, but not yet for as long as the policy asks (`for`)
--	c met again, but not yet for as long as it asks (`clear_after`): the violation stands
--	u not known any more, was violated: the violation stands
--	h violated, its alert is held back: maintenance, or a device that waits for approval
--	d met, but its alert flaps and stays open for a while
--	- no matter: out of scope, disabled, deleted, or not judged yet
-- 1 c u h make the posture, 1 c u d have an open alert. Built-in policies (silence, forks ...) have places in the same string; no predicate but the collector sets them.
SET search_path = fleetstate, pg_catalog;

ALTER TABLE device ADD labels text[] NOT NULL DEFAULT '{}' CHECK (array_length(labels, 1) <= 32);
ALTER TABLE device ADD unknowns int NOT NULL DEFAULT 0;	-- policies that could not be judged, of any severity

CREATE SEQUENCE policy_revision AS bigint;
CREATE TABLE policy (
	policy_id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
	tenant_id int REFERENCES tenant,	-- NULL: the operator's, for all tenants
	id text NOT NULL CHECK (id ~ '^[a-z0-9][a-z0-9._-]{0,127}$'),
	builtin boolean NOT NULL DEFAULT false,
	predicate jsonpath,			-- the violation; NULL for a built-in one
	predicate_text text,			-- as it was given
	title text NOT NULL CHECK (length(title) BETWEEN 1 AND 255),
	severity text NOT NULL CHECK (severity IN ('low', 'medium', 'high', 'critical')),
	element text CHECK (length(element) <= 32),	-- key element of NISTIR 8259, "SU.2"; or a provision of another catalogue
	remediation text CHECK (length(remediation) <= 4096),
	pack text CHECK (length(pack) <= 128),
	for_reports int NOT NULL DEFAULT 0 CHECK (for_reports BETWEEN 0 AND 1000),	-- violated for as many reports in a row
	for_s int NOT NULL DEFAULT 0 CHECK (for_s BETWEEN 0 AND 2592000),		-- and for as long, before it counts
	clear_reports int NOT NULL DEFAULT 0 CHECK (clear_reports BETWEEN 0 AND 1000),
	clear_s int NOT NULL DEFAULT 0 CHECK (clear_s BETWEEN 0 AND 2592000),
	models text[], firmwares text[], labels text[],	-- scope; NULL: all
	enabled boolean NOT NULL DEFAULT true,
	posture text CHECK (posture IN ('untrusted', 'silent', 'degraded')),	-- of a device that violates it; NULL: as it was
	slot int CHECK (slot BETWEEN 1 AND 1000),	-- place in device_verdict.outcomes, or own_outcomes; NULL: given free after it was deleted
	revision bigint NOT NULL DEFAULT nextval('policy_revision'),	-- the entity tag
	created_at timestamptz NOT NULL DEFAULT now(),
	changed_at timestamptz NOT NULL DEFAULT now(),
	changed_by text NOT NULL,
	deleted_at timestamptz,
	strikes int NOT NULL DEFAULT 0,		-- times that it took too long; three and it is out
	struck_out_at timestamptz,
	UNIQUE NULLS NOT DISTINCT (tenant_id, id),
	UNIQUE NULLS NOT DISTINCT (tenant_id, slot, policy_id),
	CHECK (builtin = (predicate IS NULL))
);

-- What the policies say of a device. Whoever changes it, or the device's open alerts, moves rev: that is the lock of both.
CREATE TABLE device_verdict (
	device_id bigint PRIMARY KEY REFERENCES device ON DELETE CASCADE,
	tenant_id int NOT NULL,
	rev bigint NOT NULL DEFAULT 0,
	outcomes text NOT NULL DEFAULT '',	-- of the operator's policies and the built-in ones, by slot
	own_outcomes text NOT NULL DEFAULT '',	-- of the tenant's own
	rules bigint NOT NULL DEFAULT 0,	-- the operator's rules as of this revision were applied; 0: judge it anew
	own_rules bigint NOT NULL DEFAULT 0,	-- likewise the tenant's own
	own_mark bigint NOT NULL DEFAULT 0	-- how often its own became stale
) WITH (fillfactor = 70);
CREATE INDEX device_verdict_rules ON device_verdict (rules, device_id);
CREATE INDEX device_verdict_own_rules ON device_verdict (tenant_id, own_rules, device_id);

-- Outcomes p, c, h and d: what time or further reports will decide.
CREATE TABLE verdict_pending (
	device_id bigint NOT NULL REFERENCES device ON DELETE CASCADE,
	policy_id int NOT NULL REFERENCES policy,
	tenant_id int NOT NULL,
	since timestamptz NOT NULL DEFAULT now(),
	epoch bigint NOT NULL,			-- the device's report that began it
	seq bigint NOT NULL,
	reports int NOT NULL,			-- that many in a row, that one included
	due_at timestamptz NOT NULL,		-- not before
	PRIMARY KEY (device_id, policy_id)
);
CREATE INDEX verdict_pending_due ON verdict_pending (due_at);

-- How far judging anew has come, after a policy changed. One row for the operator's policies (tenant 0), one for each tenant's own.
CREATE TABLE judging (
	tenant_id int PRIMARY KEY,
	revision bigint NOT NULL,
	total bigint NOT NULL,			-- devices, about
	done bigint NOT NULL DEFAULT 0,
	begun_at timestamptz NOT NULL DEFAULT now(),
	ended_at timestamptz			-- NULL: still at it
);

-- One open row for each device and policy. Those that many devices opened together stand under a group alert: a row with device 0, whose members name
-- it in group_id and are not told of one by one. The system's own troubles have device 0 and tenant 0, which every tenant sees.
CREATE TABLE alert (
	alert_id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
	device_id bigint NOT NULL DEFAULT 0,
	tenant_id int NOT NULL,
	policy_id int NOT NULL REFERENCES policy,
	group_id bigint,
	told boolean NOT NULL DEFAULT true,	-- by an event of its own
	reasons text[] NOT NULL DEFAULT '{}',
	opened_at timestamptz NOT NULL DEFAULT now(),
	joined_at timestamptz NOT NULL DEFAULT now(),	-- when the last device joined the group
	acknowledged_at timestamptz, acknowledged_by text, comment text,
	silenced_until timestamptz, silenced_by text,
	resolved_at timestamptz, resolved_by text,	-- by NULL: by itself
	reopened int NOT NULL DEFAULT 0, reopened_at timestamptz,
	devices int NOT NULL DEFAULT 1,		-- of a group: how many stand in it now
	devices_most int NOT NULL DEFAULT 1,	-- and did at most
	PRIMARY KEY (device_id, alert_id)
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX alert_open ON alert (device_id, policy_id, tenant_id) WHERE resolved_at IS NULL;
CREATE INDEX alert_device ON alert (device_id, policy_id, alert_id);
CREATE INDEX alert_id ON alert USING hash (alert_id);	-- one by its number; not a list, which has its own index
CREATE INDEX alert_list ON alert (tenant_id, alert_id) WHERE group_id IS NULL;
CREATE INDEX alert_list_open ON alert (tenant_id, alert_id) WHERE group_id IS NULL AND resolved_at IS NULL;
CREATE INDEX alert_group ON alert (group_id, device_id) WHERE group_id IS NOT NULL;
-- Only what a group may gather: it must not stand in for a look-up by device and policy.
CREATE INDEX alert_recent ON alert (tenant_id, policy_id, opened_at) WHERE resolved_at IS NULL AND group_id IS NULL AND device_id <> 0;

-- What people did and said to an alert.
CREATE TABLE alert_note (
	alert_id bigint NOT NULL,
	at timestamptz NOT NULL DEFAULT clock_timestamp(),
	tenant_id int NOT NULL,
	who text NOT NULL,
	action text NOT NULL CHECK (action IN ('acknowledge', 'silence', 'resolve', 'comment')),
	comment text,
	PRIMARY KEY (alert_id, at, action)
);

-- No alert opens while a roll-out is planned; what is then still violated opens at the end.
CREATE TABLE maintenance (
	maintenance_id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
	tenant_id int NOT NULL REFERENCES tenant,
	title text NOT NULL CHECK (length(title) BETWEEN 1 AND 255),
	from_at timestamptz NOT NULL,
	until_at timestamptz NOT NULL,
	models text[], firmwares text[], labels text[], ueids bytea[],	-- scope; NULL: all
	made_by text NOT NULL,
	made_at timestamptz NOT NULL DEFAULT now(),
	CHECK (until_at > from_at AND until_at <= from_at + interval '90 days')
);
CREATE INDEX maintenance_tenant ON maintenance (tenant_id, until_at);

-- Which collectors see which of the system's own troubles; the alert stands while one does.
CREATE TABLE trouble (
	policy_id int NOT NULL REFERENCES policy,
	reporter text NOT NULL,
	seen_at timestamptz NOT NULL DEFAULT now(),
	detail text NOT NULL,
	PRIMARY KEY (policy_id, reporter)
);

DO $$
DECLARE t text;
BEGIN
	FOREACH t IN ARRAY ARRAY['policy', 'device_verdict', 'verdict_pending', 'judging', 'alert', 'alert_note', 'maintenance', 'trouble'] LOOP
		EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
		EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
		EXECUTE format('CREATE POLICY owner ON %I TO fleetstate_owner USING (true)', t);
	END LOOP;
	FOREACH t IN ARRAY ARRAY['policy', 'device_verdict', 'judging', 'alert'] LOOP
		EXECUTE format('CREATE POLICY ingest ON %I TO fleetstate_ingest USING (true)', t);
		EXECUTE format('GRANT SELECT ON %I TO fleetstate_ingest', t);
	END LOOP;
	FOREACH t IN ARRAY ARRAY['device_verdict', 'verdict_pending', 'maintenance'] LOOP
		EXECUTE format('CREATE POLICY tenant ON %I FOR SELECT TO fleetstate_api USING (tenant_id = (SELECT tenant_context()))', t);
	END LOOP;
	FOREACH t IN ARRAY ARRAY['judging', 'alert', 'alert_note'] LOOP
		EXECUTE format('CREATE POLICY tenant ON %I FOR SELECT TO fleetstate_api USING (tenant_id = (SELECT tenant_context())'
			' OR (tenant_id = 0 AND (SELECT tenant_context()) IS NOT NULL))', t);
	END LOOP;
	FOREACH t IN ARRAY ARRAY['policy', 'device_verdict', 'verdict_pending', 'judging', 'alert', 'alert_note', 'maintenance'] LOOP
		EXECUTE format('GRANT SELECT ON %I TO fleetstate_api', t);
	END LOOP;
END $$;
-- Without a context there is nothing to see, of what is everyone's either.
CREATE POLICY tenant ON policy FOR SELECT TO fleetstate_api
	USING ((SELECT tenant_context()) IS NOT NULL AND (tenant_id IS NULL OR tenant_id = (SELECT tenant_context())));

-- Every device has a verdict from the start.
CREATE FUNCTION begin_verdicts() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
BEGIN
	INSERT INTO device_verdict (device_id, tenant_id) SELECT device_id, tenant_id FROM fresh ORDER BY device_id ON CONFLICT DO NOTHING;
	RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION begin_verdicts FROM PUBLIC;
CREATE TRIGGER device_verdict_begun AFTER INSERT ON device REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION begin_verdicts();
INSERT INTO device_verdict (device_id, tenant_id) SELECT device_id, tenant_id FROM device;

-- A device that is approved, retired or labelled is judged anew.
CREATE FUNCTION judge_device_anew() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
BEGIN
	UPDATE device_verdict SET rules = 0, own_rules = 0, own_mark = own_mark + 1, rev = rev + 1, tenant_id = NEW.tenant_id WHERE device_id = NEW.device_id;
	RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION judge_device_anew FROM PUBLIC;
CREATE TRIGGER device_judged_anew AFTER UPDATE OF lifecycle, labels, tenant_id ON device FOR EACH ROW
	WHEN ((OLD.lifecycle, OLD.labels, OLD.tenant_id) IS DISTINCT FROM (NEW.lifecycle, NEW.labels, NEW.tenant_id)) EXECUTE FUNCTION judge_device_anew();

CREATE FUNCTION in_scope(models text[], firmwares text[], labels text[], model text, firmware text, has text[]) RETURNS boolean
	LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT ($1 IS NULL OR coalesce($4 = ANY ($1), false)) AND ($2 IS NULL OR coalesce($5 = ANY ($2), false)) AND ($3 IS NULL OR $3 && $6)
$$;

-- Who calls. An operator is signed in to a tenant, and may act on the system's own besides. The owner (the command line) without a context acts on all.
CREATE FUNCTION role_context() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$ SELECT nullif(current_setting('fleetstate.role', true), '') $$;
CREATE FUNCTION acts_on(tenant int) RETURNS boolean LANGUAGE sql STABLE SET search_path = fleetstate, pg_catalog, pg_temp AS $$
	SELECT CASE WHEN tenant_context() IS NULL THEN pg_has_role(session_user, 'fleetstate_owner', 'MEMBER')
		ELSE tenant = tenant_context() OR (tenant = 0 AND coalesce(role_context() = 'operator', false)) END
$$;

-- As before, and sets the role too, and the token's name: who did it, where something is written.
CREATE OR REPLACE FUNCTION sign_in(token_hash bytea, wanted text, OUT tenant_id int, OUT tenant text, OUT role text)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	who text;
BEGIN
	SELECT k.role, t.tenant_id, t.id, k.name INTO sign_in.role, sign_in.tenant_id, sign_in.tenant, who FROM api_token k LEFT JOIN tenant t
		ON t.tenant_id = coalesce(k.tenant_id, (SELECT w.tenant_id FROM tenant w WHERE w.id = wanted)) AND (wanted IS NULL OR t.id = wanted)
		WHERE k.hash = token_hash AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now());
	IF NOT FOUND THEN
		RAISE EXCEPTION 'no such token' USING ERRCODE = 'FS401';
	END IF;
	IF sign_in.tenant_id IS NULL AND wanted IS NULL THEN
		RAISE EXCEPTION 'an operator names the tenant' USING ERRCODE = 'FS400';
	END IF;
	IF sign_in.tenant_id IS NULL THEN
		RAISE EXCEPTION 'no such tenant' USING ERRCODE = 'FS404';
	END IF;
	PERFORM set_config('fleetstate.tenant', sign_in.tenant_id::text, true), set_config('fleetstate.role', sign_in.role, true),
		set_config('fleetstate.who', who, true);
END $$;
CREATE FUNCTION who_context() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$ SELECT nullif(current_setting('fleetstate.who', true), '') $$;

-- Policies: what may be said.

-- What is wrong with a predicate, and where (1: its first character). NULL: nothing.
CREATE FUNCTION predicate_fault(predicate text, OUT fault text, OUT place int) LANGUAGE plpgsql STABLE PARALLEL SAFE
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	path jsonpath; body text; message text; n int; part text; depth int := 0; c text;
	wild boolean[] := '{f}'; compares boolean[] := '{f}'; other boolean[] := '{f}'; root boolean[] := '{f}'; filter boolean[] := '{f}';
BEGIN
	IF octet_length(predicate) > 2048 THEN
		fault := 'longer than 2,048 bytes'; place := 2049; RETURN;
	END IF;
	IF predicate !~ '^\s*strict\s' THEN
		fault := 'must begin with strict: otherwise a fact that is missing would pass for healthy'; place := 1; RETURN;
	END IF;
	BEGIN
		path := predicate::jsonpath;
	EXCEPTION WHEN OTHERS THEN
		-- The place is behind the longest beginning that could still become a path.
		message := regexp_replace(SQLERRM, ' of jsonpath input$', '');
		FOR i IN REVERSE length(predicate) .. 0 LOOP
			BEGIN
				part := left(predicate, i);
				PERFORM part::jsonpath;
				n := i; EXIT;
			EXCEPTION WHEN OTHERS THEN
				IF SQLERRM ~ 'at end of jsonpath input$' OR i = 0 OR part !~ '\S' THEN
					n := i; EXIT;
				END IF;
			END;
		END LOOP;
		fault := message; place := n + 1; RETURN;
	END;
	body := regexp_replace(path::text, '^strict ', '');
	BEGIN
		-- Only a condition can be negated so.
		PERFORM ('strict !(' || body || ')')::jsonpath;
	EXCEPTION WHEN OTHERS THEN
		fault := 'not a condition: it yields a value, not true or false'; place := 1; RETURN;
	END;
	FOR part IN SELECT m[2] FROM regexp_matches(body, '(like_regex )?("(?:[^"\\]|\\.)*")', 'g') m WHERE m[1] IS NOT NULL LOOP
		IF octet_length(part::json #>> '{}') > 256 THEN
			fault := 'like_regex longer than 256 bytes'; place := coalesce(nullif(position('like_regex' IN predicate), 0), 1); RETURN;
		END IF;
	END LOOP;
	-- As PostgreSQL spells it, each comparison stands in parentheses of its own; what is quoted says nothing here.
	body := regexp_replace(body, '"(?:[^"\\]|\\.)*"', '""', 'g');
	IF body LIKE '%$""%' THEN
		fault := 'there are no variables'; place := 1; RETURN;
	END IF;
	IF length(body) - length(replace(body, '.**', '')) > 3 THEN
		fault := 'more than one .**'; place := length(split_part(predicate, '.**', 1)) + length(split_part(predicate, '.**', 2)) + 4; RETURN;
	END IF;
	FOR c IN SELECT t[1] FROM regexp_matches(body, '\?\(|\(|\)|\[\*\]|\.\*\*?|==|!=|<>|<=|>=|<|>|[$@]|&&|\|\|', 'g') AS t LOOP
		IF c IN ('(', '?(') THEN
			depth := depth + 1;
			wild[depth + 1] := false; compares[depth + 1] := false; other[depth + 1] := false; root[depth + 1] := false;
			filter[depth + 1] := filter[depth] OR c = '?(';
		ELSIF c = ')' THEN
			IF compares[depth + 1] AND wild[depth + 1] AND other[depth + 1] THEN
				fault := 'compares two sets ([*] with [*])'; place := 1; RETURN;
			END IF;
			wild[depth] := wild[depth] OR wild[depth + 1] OR other[depth + 1];
			depth := depth - 1;
		ELSIF c IN ('[*]', '.*', '.**') THEN
			IF filter[depth + 1] AND root[depth + 1] THEN
				fault := 'a filter that looks through the whole document for each item'; place := 1; RETURN;
			END IF;
			wild[depth + 1] := true;
		ELSIF c IN ('&&', '||') THEN
			wild[depth + 1] := false; other[depth + 1] := false; compares[depth + 1] := false;
		ELSIF c IN ('$', '@') THEN
			root[depth + 1] := c = '$';
		ELSE
			other[depth + 1] := wild[depth + 1]; wild[depth + 1] := false; compares[depth + 1] := true;
		END IF;
	END LOOP;
END $$;

-- One of a document's members; fails with FS400.
CREATE FUNCTION refuse(what text, place int DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION '%', what || coalesce(' at position ' || place, '') USING ERRCODE = 'FS400', DETAIL = coalesce(place::text, '');
END $$;
CREATE FUNCTION read_text(document jsonb, name text, longest int, needed boolean) RETURNS text LANGUAGE plpgsql AS $$
DECLARE v jsonb := document -> name;
BEGIN
	IF v IS NULL OR v = 'null' THEN
		IF needed THEN PERFORM refuse(name || ': is missing'); END IF;
		RETURN NULL;
	END IF;
	IF jsonb_typeof(v) <> 'string' OR length(v #>> '{}') NOT BETWEEN 1 AND longest THEN
		PERFORM refuse(format('%s: a text of 1 to %s characters', name, longest));
	END IF;
	RETURN v #>> '{}';
END $$;
-- A text or a list of texts; NULL: not there.
CREATE FUNCTION read_texts(document jsonb, name text) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE v jsonb := document -> name;
BEGIN
	IF v IS NULL OR v = 'null' THEN RETURN NULL; END IF;
	IF jsonb_typeof(v) = 'string' THEN v := jsonb_build_array(v); END IF;
	IF jsonb_typeof(v) <> 'array' OR jsonb_array_length(v) NOT BETWEEN 1 AND 100 OR jsonb_path_exists(v, '$[*] ? (@.type() != "string")')
		OR octet_length(v::text) > 16384 THEN
		PERFORM refuse(format('%s: a list of 1 to 100 texts', name));
	END IF;
	RETURN ARRAY(SELECT DISTINCT x FROM jsonb_array_elements_text(v) x ORDER BY x);
END $$;
-- {"reports": 3} or {"seconds": 600}, or both.
CREATE FUNCTION read_hysteresis(document jsonb, name text, OUT reports int, OUT seconds int) LANGUAGE plpgsql AS $$
DECLARE v jsonb := coalesce(nullif(document -> name, 'null'), '{}');
BEGIN
	IF jsonb_typeof(v) <> 'object' OR v - '{reports,seconds}'::text[] <> '{}' OR jsonb_path_exists(v, '$.* ? (@.type() != "number")') THEN
		PERFORM refuse(name || ': {"reports": n} or {"seconds": n}');
	END IF;
	IF (v ->> 'reports')::numeric NOT BETWEEN 0 AND 1000 OR (v ->> 'seconds')::numeric NOT BETWEEN 0 AND 2592000
		OR (v ->> 'reports')::numeric % 1 <> 0 OR (v ->> 'seconds')::numeric % 1 <> 0 THEN
		PERFORM refuse(name || ': whole numbers, reports up to 1,000, seconds up to 2,592,000 (30 days)');
	END IF;
	reports := coalesce((v ->> 'reports')::int, 0);
	seconds := coalesce((v ->> 'seconds')::int, 0);
END $$;
CREATE FUNCTION refuse_others(document jsonb, known text[], what text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF jsonb_typeof(document) IS DISTINCT FROM 'object' THEN
		PERFORM refuse(what || ': not an object');
	ELSIF document - known <> '{}' THEN
		PERFORM refuse(format('%s: there is no %s', what, (SELECT k FROM jsonb_object_keys(document - known) k ORDER BY k LIMIT 1)));
	END IF;
END $$;

-- The rules changed: the fleet, or the tenant's part of it, is judged anew (005).
CREATE FUNCTION schedule_judging(tenant int) RETURNS void LANGUAGE sql AS $$
	INSERT INTO judging (tenant_id, revision, total)
	SELECT coalesce(tenant, 0), (SELECT last_value FROM policy_revision),
		(SELECT coalesce(sum(n), 0) FROM fleet_count f WHERE tenant IS NULL OR f.tenant_id = tenant)
	ON CONFLICT (tenant_id) DO UPDATE SET revision = EXCLUDED.revision, total = EXCLUDED.total, done = 0, begun_at = now(), ended_at = NULL
$$;
CREATE FUNCTION tell_tenants(tenant int, kind text, what jsonb) RETURNS void LANGUAGE sql AS $$
	INSERT INTO event (tenant_id, type, data) SELECT t.tenant_id, kind, what FROM tenant t WHERE tenant IS NULL OR tenant = 0 OR t.tenant_id = tenant
$$;

-- Makes or replaces a policy of the tenant that is signed in, or, for `everyone`, the operator's. `expected`: the revision that it must have (0: must not
-- be there), NULL: any. The document is {"title", "severity", "when", "element", "remediation", "for", "clear_after", "scope": {"model", "firmware",
-- "label"}, "enabled", "pack"}; of a built-in policy (everyone's) all but "when" may be changed. Fails with FS400 (what and, for "when", where; the
-- place is in DETAIL too), FS403, FS409 (the operator has that id; too many), FS412.
CREATE FUNCTION policy_put(id text, document jsonb, who text, everyone boolean DEFAULT false, expected bigint DEFAULT NULL,
	OUT revision bigint, OUT created boolean)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	owner int := CASE WHEN everyone THEN NULL ELSE tenant_context() END;
	old policy; p policy; bad record; hold record; clear record; scope jsonb;
BEGIN
	IF (everyone AND NOT acts_on(0)) OR (NOT everyone AND owner IS NULL) THEN
		RAISE EXCEPTION 'an operator''s policy' USING ERRCODE = 'FS403';
	END IF;
	-- One change at a time: slots are given out here.
	PERFORM pg_advisory_xact_lock(8259, 7);
	SELECT * INTO old FROM policy x WHERE x.id = policy_put.id AND x.tenant_id IS NOT DISTINCT FROM owner;
	created := old.policy_id IS NULL OR old.deleted_at IS NOT NULL;
	IF expected IS NOT NULL AND expected <> (CASE WHEN created THEN 0 ELSE old.revision END) THEN
		RAISE EXCEPTION 'the policy is not as expected' USING ERRCODE = 'FS412';
	END IF;
	IF id IS NULL OR id !~ '^[a-z0-9][a-z0-9._-]{0,127}$' THEN
		PERFORM refuse('id: lower-case letters, digits, dots, hyphens and underscores, at most 128');
	END IF;
	IF owner IS NOT NULL AND EXISTS (SELECT FROM policy x WHERE x.id = policy_put.id AND x.tenant_id IS NULL AND x.deleted_at IS NULL) THEN
		RAISE EXCEPTION 'the operator has a policy %', id USING ERRCODE = 'FS409';
	END IF;
	document := document - '{id,examples}'::text[];
	PERFORM refuse_others(document, '{title,severity,when,element,remediation,for,clear_after,scope,enabled,pack}', 'policy');
	p.predicate_text := read_text(document, 'when', 65536, coalesce(NOT old.builtin, true));
	IF coalesce(old.builtin, false) AND p.predicate_text IS NOT NULL THEN
		PERFORM refuse('when: a built-in policy has none');
	END IF;
	p.title := read_text(document, 'title', 255, true);
	p.severity := read_text(document, 'severity', 8, true);
	p.element := read_text(document, 'element', 32, false);
	p.remediation := read_text(document, 'remediation', 4096, false);
	p.pack := read_text(document, 'pack', 128, false);
	IF p.severity NOT IN ('low', 'medium', 'high', 'critical') THEN
		PERFORM refuse('severity: low, medium, high or critical');
	END IF;
	IF jsonb_typeof(coalesce(document -> 'enabled', 'true')) <> 'boolean' THEN
		PERFORM refuse('enabled: true or false');
	END IF;
	p.enabled := coalesce((document ->> 'enabled')::boolean, true);
	hold := read_hysteresis(document, 'for');
	clear := read_hysteresis(document, 'clear_after');
	scope := coalesce(nullif(document -> 'scope', 'null'), '{}');
	PERFORM refuse_others(scope, '{model,firmware,label}', 'scope');
	SELECT * INTO bad FROM predicate_fault(p.predicate_text);
	IF bad.fault IS NOT NULL THEN
		PERFORM refuse('when: ' || bad.fault, bad.place);
	END IF;
	IF old.policy_id IS NULL AND (SELECT count(*) FROM policy x WHERE x.tenant_id IS NOT DISTINCT FROM owner AND x.slot IS NOT NULL) >= 500 THEN
		RAISE EXCEPTION 'no more than 500 policies' USING ERRCODE = 'FS409';
	END IF;
	p.slot := coalesce(old.slot, (SELECT min(s) FROM generate_series(1, 1000) s
		WHERE NOT EXISTS (SELECT FROM policy x WHERE x.tenant_id IS NOT DISTINCT FROM owner AND x.slot = s)));
	INSERT INTO policy AS x (tenant_id, id, predicate, predicate_text, title, severity, element, remediation, pack, for_reports, for_s, clear_reports,
			clear_s, models, firmwares, labels, enabled, posture, slot, changed_by)
		VALUES (owner, id, p.predicate_text::jsonpath, p.predicate_text, p.title, p.severity, p.element, p.remediation, p.pack, hold.reports,
			hold.seconds, clear.reports, clear.seconds, read_texts(scope, 'model'), read_texts(scope, 'firmware'), read_texts(scope, 'label'),
			p.enabled, 'degraded', p.slot, left(who, 255))
		ON CONFLICT (tenant_id, id) DO UPDATE SET predicate = EXCLUDED.predicate, predicate_text = EXCLUDED.predicate_text, title = EXCLUDED.title,
			severity = EXCLUDED.severity, element = EXCLUDED.element, remediation = EXCLUDED.remediation, pack = EXCLUDED.pack,
			for_reports = EXCLUDED.for_reports, for_s = EXCLUDED.for_s, clear_reports = EXCLUDED.clear_reports, clear_s = EXCLUDED.clear_s,
			models = EXCLUDED.models, firmwares = EXCLUDED.firmwares, labels = EXCLUDED.labels, enabled = EXCLUDED.enabled, slot = EXCLUDED.slot,
			revision = nextval('policy_revision'), changed_at = now(), changed_by = EXCLUDED.changed_by, deleted_at = NULL, strikes = 0,
			struck_out_at = NULL
		WHERE x.deleted_at IS NOT NULL OR x.struck_out_at IS NOT NULL
			OR (x.predicate_text, x.title, x.severity, x.element, x.remediation, x.pack, x.for_reports, x.for_s, x.clear_reports, x.clear_s, x.models,
				x.firmwares, x.labels, x.enabled)
			IS DISTINCT FROM (EXCLUDED.predicate_text, EXCLUDED.title, EXCLUDED.severity, EXCLUDED.element, EXCLUDED.remediation, EXCLUDED.pack,
				EXCLUDED.for_reports, EXCLUDED.for_s, EXCLUDED.clear_reports, EXCLUDED.clear_s, EXCLUDED.models, EXCLUDED.firmwares, EXCLUDED.labels,
				EXCLUDED.enabled)
		RETURNING x.revision INTO policy_put.revision;
	IF NOT FOUND THEN
		revision := old.revision; -- as it was
		RETURN;
	END IF;
	PERFORM schedule_judging(owner),
		tell_tenants(owner, 'policy.changed', jsonb_build_object('policy', id, 'change', CASE WHEN created THEN 'created' ELSE 'changed' END, 'by', who));
END $$;

-- Whether there was one. Its alerts resolve when the fleet has been judged anew. A built-in policy can't be deleted (FS409), but disabled.
CREATE FUNCTION policy_delete(id text, who text, everyone boolean DEFAULT false, expected bigint DEFAULT NULL) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	owner int := CASE WHEN everyone THEN NULL ELSE tenant_context() END;
	old policy;
BEGIN
	IF (everyone AND NOT acts_on(0)) OR (NOT everyone AND owner IS NULL) THEN
		RAISE EXCEPTION 'an operator''s policy' USING ERRCODE = 'FS403';
	END IF;
	PERFORM pg_advisory_xact_lock(8259, 7);
	SELECT * INTO old FROM policy x WHERE x.id = policy_delete.id AND x.tenant_id IS NOT DISTINCT FROM owner AND x.deleted_at IS NULL;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	IF expected IS NOT NULL AND expected <> old.revision THEN
		RAISE EXCEPTION 'the policy is not as expected' USING ERRCODE = 'FS412';
	END IF;
	IF old.builtin THEN
		RAISE EXCEPTION 'a built-in policy can be disabled, not deleted' USING ERRCODE = 'FS409';
	END IF;
	UPDATE policy SET deleted_at = now(), changed_at = now(), changed_by = left(who, 255), revision = nextval('policy_revision')
		WHERE policy_id = old.policy_id;
	PERFORM schedule_judging(owner), tell_tenants(owner, 'policy.changed', jsonb_build_object('policy', id, 'change', 'deleted', 'by', who));
	RETURN true;
END $$;

-- What a predicate would say of the signed-in tenant's active devices, now or as of a time: how many, and the first `most` that violate it (or that
-- are `outcome`: met, not_met, unknown). {"counts": {"met", "not_met", "unknown"}, "devices": [ueid, ...]}. Fails with FS400 as policy_put does.
-- The caller bounds the time (statement_timeout).
CREATE FUNCTION policy_preview(predicate text, as_of timestamptz DEFAULT NULL, most int DEFAULT 100, outcome text DEFAULT 'not_met') RETURNS jsonb
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp SET enable_sort = on AS $$
DECLARE
	mine int := tenant_context(); bad record; path jsonpath; answer jsonb;
	wanted boolean := CASE outcome WHEN 'not_met' THEN true WHEN 'met' THEN false END;
BEGIN
	IF outcome NOT IN ('met', 'not_met', 'unknown') THEN
		PERFORM refuse('outcome: met, not_met or unknown');
	END IF;
	IF predicate IS NULL THEN
		PERFORM refuse('when: is missing');
	END IF;
	SELECT * INTO bad FROM predicate_fault(predicate);
	IF bad.fault IS NOT NULL THEN
		PERFORM refuse('when: ' || bad.fault, bad.place);
	END IF;
	path := predicate::jsonpath;
	IF as_of IS NULL THEN
		WITH o AS MATERIALIZED (
			SELECT s.device_id, jsonb_path_match(s.state, path, '{}', true) AS violated FROM device_state s WHERE s.tenant_id = mine)
		SELECT jsonb_build_object('counts', (SELECT jsonb_build_object('met', count(*) FILTER (WHERE NOT violated), 'not_met',
				count(*) FILTER (WHERE violated), 'unknown', count(*) FILTER (WHERE violated IS NULL)) FROM o JOIN device d USING (device_id)
				WHERE d.tenant_id = mine AND d.lifecycle = 'active'),
			'devices', (SELECT coalesce(jsonb_agg(ueid), '[]') FROM (SELECT encode(d.ueid, 'hex') AS ueid FROM o JOIN device d USING (device_id)
				WHERE o.violated IS NOT DISTINCT FROM wanted AND d.tenant_id = mine AND d.lifecycle = 'active'
				ORDER BY d.device_id LIMIT least(most, 1000)) x)) INTO answer;
	ELSE
		WITH o AS MATERIALIZED (
			SELECT d.device_id, d.ueid, jsonb_path_match(h.state, path, '{}', true) AS violated FROM device d,
				LATERAL (SELECT state FROM state_history h WHERE h.device_id = d.device_id AND h.tenant_id = mine AND h.valid_from <= as_of
					ORDER BY valid_from DESC, epoch DESC, seq DESC LIMIT 1) h
			WHERE d.tenant_id = mine AND d.lifecycle = 'active')
		SELECT jsonb_build_object('counts', (SELECT jsonb_build_object('met', count(*) FILTER (WHERE NOT violated), 'not_met',
				count(*) FILTER (WHERE violated), 'unknown', count(*) FILTER (WHERE violated IS NULL)) FROM o),
			'devices', (SELECT coalesce(jsonb_agg(ueid), '[]') FROM (SELECT encode(o.ueid, 'hex') AS ueid FROM o
				WHERE o.violated IS NOT DISTINCT FROM wanted ORDER BY o.device_id LIMIT least(most, 1000)) x)) INTO answer;
	END IF;
	RETURN answer;
END $$;

-- Maintenance windows.

-- Makes one (id NULL) or replaces one of the signed-in tenant: {"title", "from", "until", "scope": {"model", "firmware", "label", "ueid"}}. NULL: there
-- is no such window. Fails with FS400.
CREATE FUNCTION maintenance_put(id bigint, document jsonb, who text) RETURNS bigint
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
	UPDATE verdict_pending SET due_at = least(due_at, now()) WHERE tenant_id = tenant_context() AND due_at < 'infinity';
	PERFORM tell_tenants(tenant_context(), 'maintenance.changed', jsonb_build_object('maintenance', id, 'title', m.title, 'from', rfc3339(m.from_at),
		'until', rfc3339(m.until_at), 'by', who));
	RETURN id;
END $$;
-- Whether there was one. What it held back opens soon.
CREATE FUNCTION maintenance_delete(id bigint, who text) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
BEGIN
	DELETE FROM maintenance WHERE maintenance_id = id AND tenant_id = tenant_context();
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	UPDATE verdict_pending SET due_at = least(due_at, now()) WHERE tenant_id = tenant_context() AND due_at < 'infinity';
	PERFORM tell_tenants(tenant_context(), 'maintenance.changed', jsonb_build_object('maintenance', id, 'change', 'deleted', 'by', who));
	RETURN true;
END $$;

-- Alerts: what people do to them. `ids` names some, or NULL and `filter` selects among the open ones: {"policy", "severity", "element", "ueid",
-- "model", "firmware", "state"}, each a text; {} is all. Only those that the caller acts on and that are open (for a comment: any) change; their ids
-- are returned, so that an empty answer to one id means that it is not there, or resolved. What is done to a group is done to its members.

CREATE FUNCTION alert_state(resolved timestamptz, silenced timestamptz, acknowledged timestamptz) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
	SELECT CASE WHEN $1 IS NOT NULL THEN 'resolved' WHEN $2 > now() THEN 'silenced' WHEN $3 IS NOT NULL THEN 'acknowledged' ELSE 'open' END
$$;
CREATE FUNCTION select_alerts(ids bigint[], filter jsonb, resolved_too boolean) RETURNS bigint[]
	LANGUAGE plpgsql STABLE SET search_path = fleetstate, pg_catalog, pg_temp AS $$
BEGIN
	IF ids IS NULL THEN
		PERFORM refuse_others(filter, '{policy,severity,element,ueid,model,firmware,state}', 'filter');
		IF jsonb_path_exists(filter, '$.* ? (@.type() != "string")') THEN
			PERFORM refuse('filter: its values are texts');
		END IF;
		RETURN ARRAY(SELECT a.alert_id FROM alert a JOIN policy p USING (policy_id) LEFT JOIN device d ON d.device_id = a.device_id
			WHERE a.resolved_at IS NULL AND a.group_id IS NULL AND acts_on(a.tenant_id)
				AND p.id = coalesce(filter ->> 'policy', p.id) AND p.severity = coalesce(filter ->> 'severity', p.severity)
				AND (filter ->> 'element' IS NULL OR p.element = filter ->> 'element')
				AND (filter ->> 'ueid' IS NULL OR encode(d.ueid, 'hex') = filter ->> 'ueid')
				AND (filter ->> 'model' IS NULL OR d.hwmodel = filter ->> 'model')
				AND (filter ->> 'firmware' IS NULL OR d.swversion = filter ->> 'firmware')
				AND (filter ->> 'state' IS NULL OR alert_state(a.resolved_at, a.silenced_until, a.acknowledged_at) = filter ->> 'state')
			ORDER BY a.alert_id);
	END IF;
	RETURN ARRAY(SELECT a.alert_id FROM alert a WHERE a.alert_id = ANY (ids) AND acts_on(a.tenant_id) AND (resolved_too OR a.resolved_at IS NULL)
		ORDER BY a.alert_id);
END $$;
-- An event for each, as those of 005 look; `more` is added to its data.
CREATE FUNCTION tell_alerts(ids bigint[], kind text, more jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO event (tenant_id, type, ueid, data)
	SELECT t.tenant_id, kind, d.ueid, jsonb_build_object('alert', a.alert_id, 'policy', p.id, 'severity', p.severity, 'title', p.title,
		'element', p.element, 'state', alert_state(a.resolved_at, a.silenced_until, a.acknowledged_at), 'opened_at', rfc3339(a.opened_at),
		'reasons', a.reasons) || CASE WHEN a.device_id = 0 AND a.tenant_id <> 0 THEN jsonb_build_object('devices', a.devices) ELSE '{}' END
		|| more
	FROM alert a JOIN policy p USING (policy_id) LEFT JOIN device d ON d.device_id = a.device_id
		JOIN tenant t ON t.tenant_id = a.tenant_id OR a.tenant_id = 0
	WHERE a.alert_id = ANY (ids) ORDER BY a.alert_id, t.tenant_id;
END $$;
CREATE FUNCTION note_alerts(ids bigint[], who text, action text, comment text) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_variable
BEGIN
	IF length(comment) > 4096 THEN
		PERFORM refuse('comment: at most 4,096 characters');
	END IF;
	INSERT INTO alert_note (alert_id, tenant_id, who, action, comment)
		SELECT a.alert_id, a.tenant_id, left(who, 255), action, nullif(comment, '') FROM alert a WHERE a.alert_id = ANY (ids);
END $$;

CREATE FUNCTION alert_acknowledge(ids bigint[], filter jsonb, who text, comment text DEFAULT NULL) RETURNS bigint[]
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	mine bigint[] := select_alerts(ids, filter, false);
BEGIN
	PERFORM note_alerts(mine, who, 'acknowledge', comment);
	UPDATE alert a SET acknowledged_at = now(), acknowledged_by = left(who, 255), comment = coalesce(nullif(alert_acknowledge.comment, ''), a.comment)
		WHERE (a.alert_id = ANY (mine) OR a.group_id = ANY (mine)) AND a.resolved_at IS NULL;
	PERFORM tell_alerts(mine, 'alert.acknowledged', jsonb_strip_nulls(jsonb_build_object('by', who, 'comment', comment)));
	RETURN mine;
END $$;
-- Silent until then, by at most a year; a time that has passed, or NULL, ends the silence.
CREATE FUNCTION alert_silence(ids bigint[], filter jsonb, who text, until timestamptz, comment text DEFAULT NULL) RETURNS bigint[]
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	mine bigint[] := select_alerts(ids, filter, false);
BEGIN
	IF until > now() + interval '366 days' THEN
		PERFORM refuse('until: at most a year ahead');
	END IF;
	PERFORM note_alerts(mine, who, 'silence', comment);
	UPDATE alert a SET silenced_until = until, silenced_by = left(who, 255), comment = coalesce(nullif(alert_silence.comment, ''), a.comment)
		WHERE (a.alert_id = ANY (mine) OR a.group_id = ANY (mine)) AND a.resolved_at IS NULL;
	PERFORM tell_alerts(mine, 'alert.silenced', jsonb_strip_nulls(jsonb_build_object('by', who, 'until', rfc3339(until), 'comment', comment)));
	RETURN mine;
END $$;
CREATE FUNCTION alert_comment(ids bigint[], filter jsonb, who text, comment text) RETURNS bigint[]
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	mine bigint[] := select_alerts(ids, filter, true);
BEGIN
	IF coalesce(comment, '') = '' THEN
		PERFORM refuse('comment: is missing');
	END IF;
	PERFORM note_alerts(mine, who, 'comment', comment);
	UPDATE alert a SET comment = alert_comment.comment WHERE a.alert_id = ANY (mine);
	PERFORM tell_alerts(mine, 'alert.commented', jsonb_build_object('by', who, 'comment', comment));
	RETURN mine;
END $$;
-- alert_resolve(ids, filter, who, comment), likewise, is in 005.

-- What the HTTP interface reads.

CREATE FUNCTION hysteresis_json(reports int, seconds int) RETURNS json LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT json_strip_nulls(json_build_object('reports', nullif(reports, 0), 'seconds', nullif(seconds, 0)))
$$;
-- `source`: builtin, operator, or tenant. The entity tag is revision.
CREATE VIEW policy_item WITH (security_invoker = true) AS
SELECT p.policy_id, p.tenant_id, p.id, p.severity, p.element, p.pack, p.enabled, p.revision,
	json_build_object('id', p.id, 'source', CASE WHEN p.builtin THEN 'builtin' WHEN p.tenant_id IS NULL THEN 'operator' ELSE 'tenant' END,
		'title', p.title, 'severity', p.severity, 'element', p.element, 'when', p.predicate_text, 'remediation', p.remediation,
		'for', hysteresis_json(p.for_reports, p.for_s), 'clear_after', hysteresis_json(p.clear_reports, p.clear_s),
		'scope', json_strip_nulls(json_build_object('model', p.models, 'firmware', p.firmwares, 'label', p.labels)), 'enabled', p.enabled,
		'pack', p.pack, 'revision', p.revision, 'created_at', rfc3339(p.created_at), 'changed_at', rfc3339(p.changed_at), 'changed_by', p.changed_by,
		'struck_out_at', rfc3339(p.struck_out_at))::text AS item
FROM policy p WHERE p.deleted_at IS NULL;

-- An alert; a group's and the system's have no member ueid. Lists show those with group_id NULL: single ones and groups; with group_id a group's members; by device_id all of a device's.
CREATE VIEW alert_item WITH (security_invoker = true) AS
SELECT a.alert_id, a.tenant_id, a.device_id, a.group_id, a.policy_id, p.id AS policy, p.severity, p.element, d.ueid, d.hwmodel, d.swversion,
	a.opened_at, a.resolved_at, alert_state(a.resolved_at, a.silenced_until, a.acknowledged_at) AS state,
	replace(json_build_object('id', a.alert_id, 'ueid', encode(d.ueid, 'hex'), 'policy', p.id, 'severity', p.severity,
		'state', alert_state(a.resolved_at, a.silenced_until, a.acknowledged_at), 'opened_at', rfc3339(a.opened_at), 'title', p.title,
		'element', p.element, 'remediation', p.remediation, 'reasons', a.reasons, 'scope', CASE WHEN a.tenant_id = 0 THEN 'system'
			WHEN a.device_id <> 0 THEN 'device' WHEN p.builtin AND p.slot IS NULL THEN 'tenant' ELSE 'group' END, 'group', a.group_id,
		'devices', CASE WHEN a.device_id = 0 AND a.tenant_id <> 0 THEN a.devices END, 'devices_most', CASE WHEN a.device_id = 0 AND a.tenant_id <> 0
			THEN a.devices_most END, 'acknowledged_by', a.acknowledged_by, 'acknowledged_at', rfc3339(a.acknowledged_at), 'comment', a.comment,
		'silenced_until', rfc3339(a.silenced_until), 'silenced_by', a.silenced_by, 'resolved_at', rfc3339(a.resolved_at),
		'resolved_by', a.resolved_by, 'reopened', a.reopened, 'reopened_at', rfc3339(a.reopened_at))::text, '"ueid" : null, ', '') AS item
FROM alert a JOIN policy p USING (policy_id) LEFT JOIN device d ON d.device_id = a.device_id;

CREATE VIEW maintenance_item WITH (security_invoker = true) AS
SELECT m.maintenance_id, m.tenant_id, m.from_at, m.until_at,
	json_build_object('id', m.maintenance_id, 'title', m.title, 'from', rfc3339(m.from_at), 'until', rfc3339(m.until_at),
		'scope', json_strip_nulls(json_build_object('model', m.models, 'firmware', m.firmwares, 'label', m.labels,
			'ueid', (SELECT json_agg(encode(u, 'hex')) FROM unnest(m.ueids) u))),
		'made_by', m.made_by, 'made_at', rfc3339(m.made_at))::text AS item
FROM maintenance m;
GRANT SELECT ON policy_item, alert_item, maintenance_item TO fleetstate_api;

-- As before; labels, and how many policies could not be judged, are appended.
CREATE OR REPLACE VIEW device_item WITH (security_invoker = true) AS
SELECT d.device_id, d.tenant_id, d.ueid, d.lifecycle, d.posture, d.hwmodel, d.swname, d.swversion, d.serial, s.inventory_digest,
	json_build_object('ueid', encode(d.ueid, 'hex'), 'tenant', t.id, 'serial', d.serial, 'vendor', d.vendor, 'hwmodel', d.hwmodel,
		'hwversion', d.hwversion, 'oemid', d.oemid, 'swname', d.swname, 'swversion', d.swversion, 'kernel', d.kernel,
		'lifecycle', d.lifecycle, 'posture', d.posture, 'reasons', d.reasons, 'posture_since', rfc3339(d.posture_since),
		'first_seen', rfc3339(d.first_seen), 'last_seen', rfc3339(h.last_seen),
		'epoch', CASE WHEN h.hi > 0 THEN epoch_hex(h.epoch) END, 'seq', nullif(h.hi, 0), 'interval_s', nullif(h.interval_s, 0),
		'support_until', d.support_until, 'end_of_life', d.end_of_life,
		'state_digest', encode(s.state_digest, 'hex'), 'inventory_digest', encode(s.inventory_digest, 'hex'),
		'unknowns', d.unknowns, 'labels', d.labels)::text AS item
FROM device d JOIN tenant t ON t.tenant_id = d.tenant_id
	LEFT JOIN device_hot h ON h.device_id = d.device_id
	LEFT JOIN device_state s ON s.device_id = d.device_id;

REVOKE ALL ON FUNCTION predicate_fault, policy_put, policy_delete, policy_preview, maintenance_put, maintenance_delete, alert_acknowledge, alert_silence,
	alert_comment, schedule_judging, tell_tenants, tell_alerts, note_alerts, select_alerts, refuse, read_text, read_texts, read_hysteresis, refuse_others
	FROM PUBLIC;
GRANT EXECUTE ON FUNCTION policy_put, policy_delete, policy_preview, maintenance_put, maintenance_delete, alert_acknowledge, alert_silence, alert_comment
	TO fleetstate_api;

-- Built-in policies, in the first slots. Device by device, then the system's own, which have no slot.
INSERT INTO policy (id, builtin, title, severity, element, posture, slot, changed_by, remediation) VALUES
	('fork', true, 'Two different reports under one number', 'critical', 'DI.1', 'untrusted', 1, 'fleetstate',
		'The signing key is in two places, or an old state of the device was put back. Find the copy; give the device a new key; then resolve this alert.'),
	('second-epoch', true, 'A second beginning that nobody vouched for', 'critical', 'DI.1', 'untrusted', 2, 'fleetstate',
		'The device lost its state directory, or its key was copied. If it was reset on purpose, run fleetstate device reprovision beforehand; else treat it as a copied key.'),
	('revoked-key', true, 'The key was revoked', 'critical', 'DI.1', 'untrusted', 3, 'fleetstate', 'Give the device a new key and certificate, or retire it.'),
	('verification', true, 'Reports that fail verification', 'critical', 'CS.4', 'untrusted', 4, 'fleetstate',
		'Somebody publishes in the device''s name without its key, or the device is broken. See its refusals; when the cause is found, resolve this alert.'),
	('silent', true, 'Not heard for three of its intervals', 'high', 'CS.1', 'silent', 5, 'fleetstate', 'Check power, network and the emitter of the device.'),
	('challenge', true, 'A challenge was not answered', 'high', 'CS.4', NULL, 6, 'fleetstate',
		'The device is heard but did not prove that it holds its key now. Check the emitter''s version and its clock; a replayed report can''t answer.'),
	('certificate-ending', true, 'The device''s certificate ends soon', 'medium', 'DI.1', NULL, 7, 'fleetstate', 'Renew it: a known key is accepted for 30 days more.'),
	('broker', true, 'The broker can''t be heard', 'critical', 'CS.5', NULL, NULL, 'fleetstate', 'Devices keep their reports meanwhile. Check the broker, its certificate and the network.'),
	('collector', true, 'A collector is gone', 'high', 'CS.5', NULL, NULL, 'fleetstate', 'Others took its shards. Check that it runs and reaches the database.'),
	('partitions', true, 'Partitions for reports run out', 'critical', 'CS.5', NULL, NULL, 'fleetstate', 'The owner''s function make_partitions fails: see the collector''s log.'),
	('outbox-lag', true, 'Events wait for their position', 'high', 'CS.5', NULL, NULL, 'fleetstate', 'Look for a long transaction, or a collector that can''t reach the database.'),
	('certificate', true, 'A certificate of the system''s own ends soon', 'high', 'CS.5', NULL, NULL, 'fleetstate', 'Renew the collector''s or the receipt signer''s certificate.'),
	('disk', true, 'A disk is nearly full', 'critical', 'CS.5', NULL, NULL, 'fleetstate', 'Make room, or shorten the retention of quiet reports.');
-- A tenant's policy that was struck out: an alert of that tenant without a device.
INSERT INTO policy (id, builtin, title, severity, element, slot, changed_by, remediation) VALUES
	('struck-out', true, 'A policy of your own took too long and is out', 'medium', NULL, NULL, 'fleetstate', 'Write it simpler, and put it again.');
