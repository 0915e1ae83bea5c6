-- What lists ask beside their devices, for less.

-- As before, by a plan that is kept.
CREATE OR REPLACE FUNCTION history_begin(tenant int) RETURNS timestamptz LANGUAGE plpgsql STABLE SET search_path = fleetstate, pg_catalog, pg_temp AS $$
BEGIN
	RETURN (SELECT CASE WHEN t.history_s IS NULL THEN greatest(u.at, h.at) ELSE h.at END
		FROM device_history_usual u LEFT JOIN tenant t ON t.tenant_id = tenant LEFT JOIN tenant_history h ON h.tenant_id = tenant);
END $$;

-- As before, but that most have nothing which could be wrong beyond their syntax, and are not taken apart.
DO $do$
DECLARE
	judge CONSTANT text := pg_get_functiondef('predicate_fault'::regproc);
	parts CONSTANT text := 'FOR part IN SELECT ';
BEGIN
	IF strpos(judge, parts) = 0 THEN
		RAISE EXCEPTION 'predicate_fault is not as it was';
	END IF;
	EXECUTE replace(judge, parts, $$IF body !~ 'like_regex|[$]"|[.]\*|\[\*' THEN
		RETURN;
	END IF;
	$$ || parts);
END $do$;

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
