-- Roles, made once by the cluster's superuser (psql -f roles.sql); a database is then CREATE DATABASE fleetstate OWNER fleetstate_owner.
-- owner: migrations and the command line. ingest: the pipeline. api: what HTTP requests run as; it owns nothing and bypasses nothing.
DO $$
BEGIN
	IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'fleetstate_owner') THEN
		CREATE ROLE fleetstate_owner LOGIN;
	END IF;
	IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'fleetstate_ingest') THEN
		CREATE ROLE fleetstate_ingest LOGIN;
	END IF;
	IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'fleetstate_api') THEN
		CREATE ROLE fleetstate_api LOGIN;
	END IF;
END $$;
