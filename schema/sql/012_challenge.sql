-- Challenges: a device is asked to prove that it holds its key now. A fresh nonce goes to it in a receipt; the report that carries it answers.
SET search_path = fleetstate, pg_catalog;

CREATE TABLE challenge (
	challenge_id bigint GENERATED ALWAYS AS IDENTITY,
	device_id bigint NOT NULL REFERENCES device,
	tenant_id int NOT NULL,
	nonce bytea NOT NULL CHECK (length(nonce) BETWEEN 8 AND 64),
	asked_at timestamptz NOT NULL,
	asked_by text NOT NULL,
	expires_at timestamptz NOT NULL,
	sent_at timestamptz,			-- the last receipt that carried it
	sends int NOT NULL DEFAULT 0,
	heard_at timestamptz,			-- the first report since it was asked, whatever it said
	unanswered_at timestamptz,		-- when the alert was raised
	answered_at timestamptz,		-- all by the database's clock, so that the round trip is measured by one
	round_trip_ms bigint,
	report_sha256 bytea, epoch bigint, seq bigint,	-- of the report that answered
	outcome text CHECK (outcome IN ('answered', 'expired', 'replaced')),	-- NULL: it is open
	PRIMARY KEY (device_id, challenge_id)
);
-- One question at a time.
CREATE UNIQUE INDEX challenge_open ON challenge (device_id) WHERE outcome IS NULL;
-- Nonces that answered nothing: old, foreign or wrong ones.
CREATE TABLE challenge_stray (
	device_id bigint PRIMARY KEY REFERENCES device,
	tenant_id int NOT NULL,
	n bigint NOT NULL
);
DO $$
DECLARE t text;
BEGIN
	FOREACH t IN ARRAY ARRAY['challenge', 'challenge_stray'] LOOP
		EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
		EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
		EXECUTE format('CREATE POLICY owner ON %I TO fleetstate_owner USING (true)', t);
		EXECUTE format('CREATE POLICY ingest ON %I TO fleetstate_ingest USING (true)', t);
		EXECUTE format('CREATE POLICY tenant ON %I FOR SELECT TO fleetstate_api USING (tenant_id = (SELECT tenant_context()))', t);
		EXECUTE format('GRANT SELECT ON %I TO fleetstate_api', t);
	END LOOP;
END $$;
GRANT SELECT, UPDATE ON challenge TO fleetstate_ingest;

CREATE FUNCTION challenge_state(c challenge) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
	AS $$ SELECT coalesce(c.outcome, CASE WHEN c.unanswered_at IS NULL THEN 'waiting' ELSE 'unanswered' END) $$;
CREATE FUNCTION challenge_json(c challenge) RETURNS json LANGUAGE sql STABLE PARALLEL SAFE AS $$
	SELECT json_build_object('id', c.challenge_id, 'nonce', encode(c.nonce, 'hex'), 'state', challenge_state(c), 'asked_at', rfc3339(c.asked_at),
		'asked_by', c.asked_by, 'expires_at', rfc3339(c.expires_at), 'sent_at', rfc3339(c.sent_at), 'sends', c.sends,
		'unanswered_at', rfc3339(c.unanswered_at), 'answered_at', rfc3339(c.answered_at), 'round_trip_ms', c.round_trip_ms,
		'report_sha256', encode(c.report_sha256, 'hex'), 'epoch', epoch_hex(c.epoch), 'seq', c.seq)
$$;
CREATE VIEW challenge_item WITH (security_invoker = true) AS
SELECT c.challenge_id, c.tenant_id, c.device_id, challenge_json(c)::text AS item FROM challenge c;
GRANT SELECT ON challenge_item TO fleetstate_api;

CREATE FUNCTION tell_challenge(c challenge, kind text, more jsonb) RETURNS void LANGUAGE sql AS $$
	INSERT INTO event (tenant_id, type, ueid, data) SELECT c.tenant_id, kind, d.ueid,
		jsonb_build_object('nonce', encode(c.nonce, 'hex'), 'asked_at', rfc3339(c.asked_at), 'by', c.asked_by) || more
	FROM device d WHERE d.device_id = c.device_id
$$;

-- Asks. While a question is open that may still be answered in time, it is that one that is returned, and none is made: whoever asks as well waits
-- for the same answer. One that is overdue makes room for a new one. NULL: there is no such device; FS409: it is not an active one.
CREATE FUNCTION challenge_ask(device bytea, seconds int, who text, OUT item json, OUT created boolean)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	d device; c challenge;
BEGIN
	SELECT * INTO d FROM device x WHERE x.ueid = device;
	IF NOT FOUND OR NOT acts_on(d.tenant_id) THEN
		RETURN;
	END IF;
	IF d.lifecycle <> 'active' THEN
		RAISE EXCEPTION 'The device is %, not active.', d.lifecycle USING ERRCODE = 'FS409';
	END IF;
	created := false;
	LOOP
		SELECT * INTO c FROM challenge x WHERE x.device_id = d.device_id AND x.outcome IS NULL FOR UPDATE;
		IF FOUND AND c.unanswered_at IS NULL AND c.expires_at > now() THEN
			EXIT;
		END IF;
		UPDATE challenge x SET outcome = 'replaced' WHERE x.device_id = d.device_id AND x.challenge_id = c.challenge_id;
		INSERT INTO challenge (device_id, tenant_id, nonce, asked_at, asked_by, expires_at) VALUES (d.device_id, d.tenant_id,
			substr(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 1, 16), clock_timestamp(), left(who, 255),
			clock_timestamp() + make_interval(secs => seconds))
			ON CONFLICT (device_id) WHERE outcome IS NULL DO NOTHING RETURNING * INTO c;
		created := FOUND;
		EXIT WHEN created;
	END LOOP;
	item := challenge_json(c);
	IF created THEN
		DELETE FROM challenge x WHERE x.device_id = d.device_id AND x.outcome IS NOT NULL AND x.challenge_id <=
			(SELECT y.challenge_id FROM challenge y WHERE y.device_id = d.device_id ORDER BY 1 DESC OFFSET 100 LIMIT 1);
		PERFORM tell_challenge(c, 'challenge.asked', jsonb_build_object('expires_at', rfc3339(c.expires_at)));
		NOTIFY fleetstate_challenge;
	END IF;
END $$;

-- Reports with a nonce, as they are stored. A row for each that answered; the others are counted. Whoever calls has the devices' verdicts locked.
CREATE FUNCTION answer_challenges(devices bigint[], tenants int[], nonces bytea[], epochs bigint[], seqs bigint[], digests bytea[]) RETURNS SETOF bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	c challenge; answered bigint[] := '{}'; u record;
BEGIN
	FOR u IN SELECT * FROM unnest(devices, tenants, nonces, epochs, seqs, digests) AS u (device_id, tenant_id, nonce, epoch, seq, sha256)
		ORDER BY device_id, epoch, seq LOOP
		UPDATE challenge x SET outcome = 'answered', answered_at = clock_timestamp(), report_sha256 = u.sha256, epoch = u.epoch, seq = u.seq,
				round_trip_ms = greatest(0, round(extract(epoch FROM clock_timestamp() - x.asked_at) * 1000))
			WHERE x.device_id = u.device_id AND x.outcome IS NULL AND x.nonce = u.nonce AND x.expires_at > clock_timestamp() RETURNING * INTO c;
		IF FOUND THEN
			answered := answered || u.device_id;
			PERFORM tell_challenge(c, 'challenge.answered', jsonb_build_object('answered_at', rfc3339(c.answered_at), 'round_trip_ms', c.round_trip_ms,
				'report_sha256', encode(c.report_sha256, 'hex'), 'epoch', epoch_hex(c.epoch), 'seq', c.seq));
		ELSE
			INSERT INTO challenge_stray AS s (device_id, tenant_id, n) VALUES (u.device_id, u.tenant_id, 1)
				ON CONFLICT (device_id) DO UPDATE SET tenant_id = EXCLUDED.tenant_id, n = s.n + 1;
		END IF;
	END LOOP;
	IF cardinality(answered) > 0 THEN
		PERFORM mark_devices(answered, array_fill('challenge'::text, ARRAY[cardinality(answered)]), array_fill('0'::text, ARRAY[cardinality(answered)]));
	END IF;
	RETURN QUERY SELECT unnest(answered);
END $$;

-- What time brings about: a device that is heard but has not answered for so many seconds since it was asked, or since it came back, is told of, and
-- a question is over some day. Verdicts are locked first, as ingest does. How many.
CREATE FUNCTION challenges_due(seconds int, most int, OUT unanswered bigint, OUT expired bigint)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	c challenge; devices bigint[]; late bigint[] := '{}'; patience interval := make_interval(secs => seconds);
BEGIN
	unanswered := 0;
	expired := 0;
	IF NOT pg_try_advisory_xact_lock(8259, 12) THEN
		RETURN;
	END IF;
	devices := ARRAY(SELECT x.device_id FROM challenge x LEFT JOIN device_hot h ON h.device_id = x.device_id WHERE x.outcome IS NULL
		AND (x.expires_at <= now() OR (x.sent_at IS NOT NULL AND x.unanswered_at IS NULL AND h.last_seen > x.asked_at)) ORDER BY 1 LIMIT most);
	IF cardinality(devices) = 0 THEN
		RETURN;
	END IF;
	PERFORM lock_verdicts(devices);
	UPDATE challenge x SET heard_at = h.last_seen FROM device_hot h WHERE h.device_id = x.device_id AND x.device_id = ANY (devices)
		AND x.outcome IS NULL AND x.heard_at IS NULL AND x.sent_at IS NOT NULL AND h.last_seen > x.asked_at;
	FOR c IN UPDATE challenge x SET unanswered_at = now() WHERE x.device_id = ANY (devices) AND x.outcome IS NULL AND x.unanswered_at IS NULL
		AND now() >= CASE WHEN x.heard_at > x.asked_at + patience THEN x.heard_at ELSE x.asked_at END + patience AND x.heard_at IS NOT NULL RETURNING x.* LOOP
		PERFORM tell_challenge(c, 'challenge.unanswered', jsonb_build_object('heard_at', rfc3339(c.heard_at), 'sends', c.sends));
		late := late || c.device_id;
	END LOOP;
	unanswered := cardinality(late);
	IF unanswered > 0 THEN
		SELECT array_agg(d ORDER BY d) INTO late FROM unnest(late) d;
		PERFORM mark_devices(late, array_fill('challenge'::text, ARRAY[cardinality(late)]), array_fill('1'::text, ARRAY[cardinality(late)]));
	END IF;
	FOR c IN UPDATE challenge x SET outcome = 'expired' WHERE x.device_id = ANY (devices) AND x.outcome IS NULL AND x.expires_at <= now() RETURNING x.* LOOP
		PERFORM tell_challenge(c, 'challenge.expired', jsonb_build_object('sends', c.sends));
		expired := expired + 1;
	END LOOP;
END $$;

REVOKE ALL ON FUNCTION tell_challenge, challenge_ask, answer_challenges, challenges_due FROM PUBLIC;
GRANT EXECUTE ON FUNCTION challenge_ask TO fleetstate_api;
GRANT EXECUTE ON FUNCTION answer_challenges, challenges_due TO fleetstate_ingest;
