-- Who asks is looked up before what is asked for, whether there is such a thing or not, so that another tenant's takes as long as one that is not there.

-- A policy that the caller's devices are judged by, of that name. NULL: there is none.
CREATE FUNCTION find_policy(name text) RETURNS int LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	mine int := tenant_context();
BEGIN
	RETURN (SELECT p.policy_id FROM policy p WHERE p.id = name AND p.deleted_at IS NULL AND (p.tenant_id IS NULL OR p.tenant_id = mine)
		ORDER BY p.policy_id LIMIT 1);
END $$;
REVOKE ALL ON FUNCTION find_policy FROM PUBLIC;
GRANT EXECUTE ON FUNCTION find_policy TO fleetstate_api;

-- The rest is as before else.
CREATE OR REPLACE FUNCTION remove_tenant_sink(id bigint) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	mine int := tenant_context();
BEGIN
	DELETE FROM sink WHERE sink_id = id AND tenant_id = mine;
	IF FOUND THEN
		NOTIFY fleetstate_sink;
	END IF;
	RETURN FOUND;
END $$;

CREATE OR REPLACE FUNCTION maintenance_delete(id bigint, who text) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	mine int := tenant_context();
BEGIN
	DELETE FROM maintenance WHERE maintenance_id = id AND tenant_id = mine;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	PERFORM recheck_held(mine, NULL);
	PERFORM tell_tenants(mine, 'maintenance.changed', jsonb_build_object('maintenance', id, 'change', 'deleted', 'by', who));
	RETURN true;
END $$;
