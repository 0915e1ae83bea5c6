-- What lists ask beside their devices, for less.

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

-- As before, but that no other tenant's policies are gone through: an index has the tenant's own by name, and everyone's, but not both.
CREATE OR REPLACE FUNCTION find_policy(name text) RETURNS int LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	mine int := tenant_context();
BEGIN
	RETURN (SELECT min(x.policy_id) FROM (SELECT p.policy_id FROM policy p WHERE p.tenant_id = mine AND p.id = name AND p.deleted_at IS NULL
		UNION ALL SELECT p.policy_id FROM policy p WHERE p.tenant_id IS NULL AND p.id = name AND p.deleted_at IS NULL) x);
END $$;
-- Whether devices are judged by a policy of the name, the tenant's own or everyone's.
CREATE FUNCTION policy_judges(name text) RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	mine int := tenant_context();
BEGIN
	RETURN EXISTS (SELECT FROM policy p WHERE p.tenant_id = mine AND p.id = name AND p.deleted_at IS NULL AND p.slot IS NOT NULL)
		OR EXISTS (SELECT FROM policy p WHERE p.tenant_id IS NULL AND p.id = name AND p.deleted_at IS NULL AND p.slot IS NOT NULL);
END $$;
REVOKE ALL ON FUNCTION policy_judges FROM PUBLIC;
GRANT EXECUTE ON FUNCTION policy_judges TO fleetstate_api;
