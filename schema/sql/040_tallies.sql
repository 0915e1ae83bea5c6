-- The fleet is counted by what is asked of it, not by each model with each firmware in each posture: what a summary costs does not grow with these.

-- A device that changes is counted here or there: it waits until both are done.
LOCK TABLE device IN SHARE MODE;

-- How many devices there are of a lifecycle in a posture, and of the active ones how many of a model and of a firmware. Written as differences, so that
-- collectors never wait for each other's counts, and folded now and then.
CREATE TABLE fleet_tally (
	tenant_id int NOT NULL,
	kind text NOT NULL,	-- of the value
	lifecycle text NOT NULL,
	value text NOT NULL,
	n bigint NOT NULL
);
CREATE INDEX fleet_tally_kind ON fleet_tally (tenant_id, kind);
ALTER TABLE fleet_tally ENABLE ROW LEVEL SECURITY;
ALTER TABLE fleet_tally FORCE ROW LEVEL SECURITY;
CREATE POLICY owner ON fleet_tally TO fleetstate_owner USING (true);
CREATE POLICY tenant ON fleet_tally FOR SELECT TO fleetstate_api USING (tenant_id = (SELECT tenant_context()));
GRANT SELECT ON fleet_tally TO fleetstate_api;

-- What one device counts as.
CREATE FUNCTION tallies_of(lifecycle text, posture text, hwmodel text, swversion text) RETURNS TABLE (kind text, value text)
	LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT v.kind, v.value FROM (VALUES ('posture', posture), ('model', coalesce(hwmodel, '')), ('firmware', coalesce(swversion, ''))) v (kind, value)
		WHERE v.kind = 'posture' OR lifecycle = 'active'
$$;
INSERT INTO fleet_tally SELECT c.tenant_id, t.kind, c.lifecycle, t.value, sum(c.n) FROM fleet_count c, tallies_of(c.lifecycle, c.posture, c.hwmodel, c.swversion) t
	GROUP BY 1, 2, 3, 4 HAVING sum(c.n) <> 0;

-- Each device once.
DROP TABLE fleet_count;
CREATE VIEW fleet_count WITH (security_invoker = true) AS SELECT tenant_id, lifecycle, value AS posture, n FROM fleet_tally WHERE kind = 'posture';
GRANT SELECT ON fleet_count TO fleetstate_api;

CREATE OR REPLACE FUNCTION fold_fleet_count() RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
	WITH gone AS (
		DELETE FROM fleet_tally WHERE ctid = ANY (ARRAY(SELECT ctid FROM fleet_tally FOR UPDATE SKIP LOCKED)) RETURNING *
	)
	INSERT INTO fleet_tally SELECT tenant_id, kind, lifecycle, value, sum(n) FROM gone GROUP BY 1, 2, 3, 4 HAVING sum(n) <> 0
$$;
-- As before.
CREATE OR REPLACE FUNCTION count_devices() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
BEGIN
	IF TG_OP = 'INSERT' THEN
		INSERT INTO fleet_tally SELECT d.tenant_id, t.kind, d.lifecycle, t.value, count(*)
			FROM fresh d, tallies_of(d.lifecycle, d.posture, d.hwmodel, d.swversion) t GROUP BY 1, 2, 3, 4;
	ELSIF TG_OP = 'DELETE' THEN
		INSERT INTO fleet_tally SELECT d.tenant_id, t.kind, d.lifecycle, t.value, -count(*)
			FROM stale d, tallies_of(d.lifecycle, d.posture, d.hwmodel, d.swversion) t GROUP BY 1, 2, 3, 4;
	ELSIF NOT EXISTS (SELECT FROM fresh) THEN
		RETURN NULL;
	ELSE
		INSERT INTO fleet_tally SELECT d.tenant_id, t.kind, d.lifecycle, t.value, sum(d.n) FROM (
			SELECT tenant_id, lifecycle, posture, hwmodel, swversion, 1 AS n FROM fresh WHERE deleted_at IS NULL
			UNION ALL SELECT tenant_id, lifecycle, posture, hwmodel, swversion, -1 FROM stale WHERE deleted_at IS NULL) d,
			tallies_of(d.lifecycle, d.posture, d.hwmodel, d.swversion) t GROUP BY 1, 2, 3, 4 HAVING sum(d.n) <> 0;
	END IF;
	IF random() < 0.02 THEN
		PERFORM fold_fleet_count();
	END IF;
	RETURN NULL;
END $$;

-- As before, by a plan that is kept: to make it anew cost more than all the rest of the summary.
CREATE OR REPLACE FUNCTION open_alerts() RETURNS json LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
BEGIN
	RETURN (WITH open AS (
		SELECT policy_id, count(*) AS n FROM alert WHERE tenant_id = (SELECT tenant_context()) AND group_id IS NULL AND resolved_at IS NULL GROUP BY 1
		UNION ALL
		SELECT a.policy_id, count(*) FROM alert a JOIN policy p USING (policy_id)
			WHERE a.tenant_id = 0 AND a.group_id IS NULL AND a.resolved_at IS NULL AND (p.impairs OR is_told(0)) GROUP BY 1
	), graded AS (SELECT p.severity, sum(o.n)::bigint AS n FROM open o JOIN policy p USING (policy_id) GROUP BY 1)
	SELECT json_object_agg(s, coalesce((SELECT n FROM graded WHERE severity = s), 0)) FROM unnest('{critical,high,medium,low}'::text[]) s);
END $$;

-- As before, by a plan that is kept.
CREATE OR REPLACE FUNCTION history_begin(tenant int) RETURNS timestamptz LANGUAGE plpgsql STABLE SET search_path = fleetstate, pg_catalog, pg_temp AS $$
BEGIN
	RETURN (SELECT CASE WHEN t.history_s IS NULL THEN greatest(u.at, h.at) ELSE h.at END
		FROM device_history_usual u LEFT JOIN tenant t ON t.tenant_id = tenant LEFT JOIN tenant_history h ON h.tenant_id = tenant);
END $$;

-- As before, but that most have nothing which could be wrong beyond their syntax, and are not taken apart.
CREATE OR REPLACE FUNCTION predicate_fault(predicate text, OUT fault text, OUT place int) LANGUAGE plpgsql STABLE PARALLEL SAFE
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
	IF body !~ 'like_regex|[$]"|[.]\*|\[\*' THEN
		RETURN;
	END IF;
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

-- The tenant's inventories that have one of these components, each once. None if more are found than can be looked through. The number alone finds one: by the
-- tenant the planner would read them all.
CREATE FUNCTION component_sets(components bigint[]) RETURNS bytea[] LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	most CONSTANT int := 1000;
	mine int := tenant_context();
	sets bigint[] := ARRAY(SELECT ic.inventory_id FROM unnest(components) c (id),
		LATERAL (SELECT ic.inventory_id FROM inventory_component ic WHERE ic.component_id = c.id AND ic.tenant_id = mine OFFSET 0) ic LIMIT most + 1);
BEGIN
	RETURN ARRAY(SELECT i.digest FROM inventory i WHERE i.inventory_id = ANY (sets) AND (i.tenant_id = mine) IS TRUE AND cardinality(sets) <= most);
END $$;
REVOKE ALL ON FUNCTION component_sets FROM PUBLIC;
GRANT EXECUTE ON FUNCTION component_sets TO fleetstate_api;
