-- Devices' lives: registered beforehand, approved, retired, revoked, and transferred to another tenant with a boundary in their history. What the seller
-- has stays with the seller, under the device's former number; the buyer's device is another row, with the same ueid and keys, that begins where the
-- seller's ledger ends. So nothing that is stored by device is ever two tenants', and no row is re-labelled.

ALTER TABLE device ADD revision bigint NOT NULL DEFAULT 1;	-- of what people decided about it, for If-Match

-- Of a device that was deleted the name stays, so that nobody comes back under it unnoticed (029_holds.sql). No caller sees it.
ALTER TABLE device ADD deleted_at timestamptz;
ALTER TABLE device DROP CONSTRAINT device_lifecycle_check;
ALTER TABLE device ADD CHECK (lifecycle IN ('pending', 'active', 'retired', 'revoked', 'transferred', 'deleted'));
ALTER TABLE device ADD CHECK (lifecycle <> 'deleted' OR deleted_at IS NOT NULL);
ALTER POLICY tenant ON device USING (tenant_id = (SELECT tenant_context()) AND deleted_at IS NULL);

-- One of all tenants' rows is where its reports go; and a tenant has a device once, also one that comes back.
ALTER TABLE device DROP CONSTRAINT device_ueid_key;
CREATE UNIQUE INDEX device_current ON device (ueid) WHERE lifecycle <> 'transferred';
CREATE UNIQUE INDEX device_of_tenant ON device (ueid, tenant_id);

-- A maker's CA may vouch for devices of several tenants: a device that is known is its tenant's, any other the first one's.
ALTER TABLE trust_anchor DROP CONSTRAINT trust_anchor_certificate_key;
CREATE UNIQUE INDEX trust_anchor_certificate ON trust_anchor (tenant_id, sha256(certificate));

-- Numbers that another tenant has are neither missing nor told to this one. The last one's digest is what the next report has to name.
ALTER TABLE report_drop DROP CONSTRAINT report_drop_cause_check;
ALTER TABLE report_drop ADD CHECK (cause IN ('skipped', 'overwritten', 'transferred', 'deleted'));
ALTER TABLE report_drop ADD sha256 bytea;			-- of the range's last message; of those transferred or deleted

-- As before, with the revision beside it; and what an epoch had reached before it was this tenant's is not told.
CREATE OR REPLACE VIEW device_item WITH (security_invoker = true) AS
SELECT d.device_id, d.tenant_id, d.ueid, d.lifecycle, d.posture, d.hwmodel, d.swname, d.swversion, d.serial, s.inventory_digest,
	json_build_object('ueid', encode(d.ueid, 'hex'), 'tenant', t.id, 'serial', d.serial, 'vendor', d.vendor, 'hwmodel', d.hwmodel,
		'hwversion', d.hwversion, 'oemid', d.oemid, 'swname', d.swname, 'swversion', d.swversion, 'kernel', d.kernel,
		'lifecycle', d.lifecycle, 'posture', d.posture, 'reasons', d.reasons, 'posture_since', rfc3339(d.posture_since),
		'first_seen', rfc3339(d.first_seen), 'last_seen', rfc3339(h.last_seen),
		'epoch', CASE WHEN h.hi > 0 AND h.last_seen IS NOT NULL THEN epoch_hex(h.epoch) END,
		'seq', CASE WHEN h.last_seen IS NOT NULL THEN nullif(h.hi, 0) END, 'interval_s', nullif(h.interval_s, 0),
		'support_until', d.support_until, 'end_of_life', d.end_of_life,
		'state_digest', encode(s.state_digest, 'hex'), 'inventory_digest', encode(s.inventory_digest, 'hex'),
		'unknowns', d.unknowns, 'labels', d.labels)::text AS item, d.labels, d.revision
FROM device d JOIN tenant t ON t.tenant_id = d.tenant_id
	LEFT JOIN device_hot h ON h.device_id = d.device_id
	LEFT JOIN device_state s ON s.device_id = d.device_id;

-- A caller's own device of that name; without a tenant, the one where its reports go. 0: there is none.
CREATE FUNCTION find_device(name bytea) RETURNS bigint LANGUAGE plpgsql STABLE SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	-- Looked up whether there is such a device or not, so that another tenant's takes as long as one that is not there.
	mine int := tenant_context();
	everybodys boolean := mine IS NULL AND pg_has_role(session_user, 'fleetstate_owner', 'MEMBER');
BEGIN
	RETURN coalesce((SELECT d.device_id FROM device d WHERE d.ueid = name AND d.deleted_at IS NULL AND (everybodys OR d.tenant_id = mine)
		ORDER BY d.lifecycle = 'transferred', d.device_id DESC LIMIT 1), 0);
END $$;
-- Locks it, with its verdict, which goes first. NULL: it is not there any more.
CREATE FUNCTION lock_device(id bigint) RETURNS device LANGUAGE plpgsql SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	d device;
BEGIN
	PERFORM lock_verdicts(ARRAY[id]);
	SELECT * INTO d FROM device x WHERE x.device_id = id AND x.deleted_at IS NULL AND acts_on(x.tenant_id) FOR NO KEY UPDATE;
	RETURN d;
END $$;

-- The same where no report may go by meanwhile, in the order of ingest: the ledger's row, the verdict, the device. One that was never heard gets its row
-- now, else a collector that enrols it meanwhile would find nothing that was moved, and store its first report as if nothing had happened.
CREATE FUNCTION lock_ledger(id bigint) RETURNS device LANGUAGE plpgsql SET search_path = fleetstate, pg_catalog, pg_temp AS $$
BEGIN
	INSERT INTO device_hot (device_id, tenant_id) SELECT x.device_id, x.tenant_id FROM device x WHERE x.device_id = id AND acts_on(x.tenant_id) ON CONFLICT DO NOTHING;
	PERFORM FROM device_hot h WHERE h.device_id = id FOR UPDATE;
	RETURN lock_device(id);
END $$;

-- What labels become by a change of them, sorted. Fails with FS400.
CREATE FUNCTION merge_labels(labels text[], changes jsonb) RETURNS text[] LANGUAGE plpgsql SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	fresh text[]; word text;
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
	fresh := ARRAY(SELECT l FROM unnest(labels) l WHERE NOT changes ? split_part(l, '=', 1)
		UNION ALL SELECT key || '=' || (value #>> '{}') FROM jsonb_each(changes) x (key, value) WHERE value <> 'null' ORDER BY 1);
	IF cardinality(fresh) > 16 THEN
		PERFORM refuse('labels: at most 16');
	END IF;
	RETURN fresh;
END $$;

-- What became of a device is told in the feed, from where asset systems have it, and to the collectors.
CREATE FUNCTION tell_lifecycle(d device, by text) RETURNS void LANGUAGE plpgsql SET search_path = fleetstate, pg_catalog, pg_temp AS $$
BEGIN
	INSERT INTO event (tenant_id, type, ueid, data) VALUES (d.tenant_id, 'device.lifecycle', d.ueid,
		jsonb_build_object('lifecycle', d.lifecycle) || CASE WHEN by IS NULL THEN '{}' ELSE jsonb_build_object('by', left(by, 255)) END);
	PERFORM pg_notify('fleetstate_device', encode(d.ueid, 'hex'));
END $$;

-- From which lifecycle a device comes to another by somebody's word.
CREATE FUNCTION may_become(was text, becomes text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
	SELECT (was, becomes) IN (('pending', 'active'), ('pending', 'retired'), ('pending', 'revoked'), ('active', 'retired'), ('active', 'revoked'),
		('retired', 'revoked'), ('pending', 'transferred'), ('active', 'transferred'))
$$;
-- Fails with FS409 unless it may.
CREATE FUNCTION check_becomes(was text, becomes text) RETURNS void LANGUAGE plpgsql SET search_path = fleetstate, pg_catalog, pg_temp AS $$
BEGIN
	IF was = becomes THEN
		RAISE EXCEPTION 'The device is % already.', was USING ERRCODE = 'FS409';
	ELSIF NOT may_become(was, becomes) THEN
		RAISE EXCEPTION 'A device that is % can''t become %.', was, becomes USING ERRCODE = 'FS409';
	END IF;
END $$;

-- Gives a locked device to another tenant. The seller's row stays as it is, and takes nothing more: what a collector has under way for it misses its
-- ledger's row, and goes to the buyer's. That one has the keys, and of each epoch all numbers up to here as another tenant's.
CREATE FUNCTION device_transfer(d device, buyer int, by text) RETURNS void LANGUAGE plpgsql SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	now_of device; other int;
BEGIN
	PERFORM check_becomes(d.lifecycle, 'transferred');
	IF EXISTS (SELECT FROM device x JOIN device_purge p ON p.device_id = x.device_id WHERE x.ueid = d.ueid AND x.tenant_id = buyer) THEN
		RAISE EXCEPTION 'What that tenant had of it and deleted is still being removed.' USING ERRCODE = 'FS409';
	END IF;
	UPDATE device_hot h SET rev = h.rev + 1 WHERE h.device_id = d.device_id;
	UPDATE device_epoch e SET hi = h.hi FROM device_hot h WHERE h.device_id = d.device_id AND e.device_id = d.device_id AND e.epoch = h.epoch;
	UPDATE challenge c SET outcome = 'expired' WHERE c.device_id = d.device_id AND c.outcome IS NULL;
	UPDATE device x SET lifecycle = 'transferred', revision = x.revision + 1, reprovision_until = NULL WHERE x.device_id = d.device_id
		RETURNING x.* INTO now_of;
	PERFORM tell_lifecycle(now_of, by);

	INSERT INTO device AS x (tenant_id, ueid, lifecycle) VALUES (buyer, d.ueid, d.lifecycle)
		ON CONFLICT (ueid, tenant_id) DO UPDATE SET lifecycle = EXCLUDED.lifecycle, deleted_at = NULL, revision = x.revision + 1 RETURNING x.* INTO now_of;
	INSERT INTO device_key (device_id, kid, tenant_id, spki, chain, not_before, not_after, status, superseded_epoch, superseded_seq, revoked_at, revoked_why)
		SELECT now_of.device_id, k.kid, buyer, k.spki, k.chain, k.not_before, k.not_after, k.status, k.superseded_epoch, k.superseded_seq, k.revoked_at,
			k.revoked_why FROM device_key k WHERE k.device_id = d.device_id
		ON CONFLICT (device_id, kid) DO UPDATE SET chain = EXCLUDED.chain, not_before = EXCLUDED.not_before, not_after = EXCLUDED.not_after,
			status = EXCLUDED.status, superseded_epoch = EXCLUDED.superseded_epoch, superseded_seq = EXCLUDED.superseded_seq,
			revoked_at = EXCLUDED.revoked_at, revoked_why = EXCLUDED.revoked_why;
	-- What is not yet of this tenant, of one that had the device before: from where it ended then.
	INSERT INTO report_drop (device_id, epoch, dropped, tenant_id, cause, declared_by, sha256)
		SELECT now_of.device_id, e.epoch, int8range(coalesce(mine.hi, 0) + 1, e.hi, '[]'), buyer, 'transferred', 0,
			coalesce(h.head, (SELECT r.sha256 FROM report r WHERE r.device_id = d.device_id AND r.epoch = e.epoch AND r.seq = e.hi AND r.flags & 2 = 0 LIMIT 1))
		FROM device_epoch e LEFT JOIN device_epoch mine ON mine.device_id = now_of.device_id AND mine.epoch = e.epoch
			LEFT JOIN device_hot h ON h.device_id = e.device_id AND h.epoch = e.epoch
		WHERE e.device_id = d.device_id AND e.hi > coalesce(mine.hi, 0);
	INSERT INTO device_epoch AS x (device_id, epoch, tenant_id, hi, first_seen, certified, vouched)
		SELECT now_of.device_id, e.epoch, buyer, e.hi, now(), e.certified, e.vouched FROM device_epoch e WHERE e.device_id = d.device_id
		ON CONFLICT (device_id, epoch) DO UPDATE SET hi = greatest(x.hi, EXCLUDED.hi), certified = EXCLUDED.certified, vouched = EXCLUDED.vouched;
	-- What one that comes back was like then says nothing of now. Without facts it is asked for its state, and for its inventory where the tenant does not know it.
	DELETE FROM device_state s WHERE s.device_id = now_of.device_id;
	INSERT INTO device_hot AS x (device_id, tenant_id, epoch, hi, head, sections_head)
		SELECT now_of.device_id, buyer, h.epoch, h.hi, h.head, h.sections_head FROM device_hot h WHERE h.device_id = d.device_id
		ON CONFLICT (device_id) DO UPDATE SET rev = x.rev + 1, epoch = EXCLUDED.epoch, hi = EXCLUDED.hi, head = EXCLUDED.head,
			sections_head = EXCLUDED.sections_head, facts = NULL, last_seen = NULL, last_iat = NULL,
			gaps = EXISTS (SELECT FROM report_gap g WHERE g.device_id = x.device_id AND g.epoch = EXCLUDED.epoch);
	PERFORM tell_lifecycle(now_of, by);
	-- Both read of it in their logs; whoever is signed in for one of them has an entry there anyhow.
	FOREACH other IN ARRAY ARRAY[d.tenant_id, buyer] LOOP
		IF other IS DISTINCT FROM tenant_context() THEN
			PERFORM audit_append(other, now(), jsonb_build_object('kind', 'change', 'who', by, 'method', 'TRANSFER',
				'target', '/v1/devices/' || encode(d.ueid, 'hex'), 'address', '-'));
		END IF;
	END LOOP;
END $$;

-- Changes a device: {"labels": {"site": "berlin", "old": null}, "lifecycle": "active", "legal_hold": {"reason": "..."}, "tenant": "buyer"}; what is not
-- named stays. A transfer is the
-- operator's alone to make: a tenant that could push a device would put what it liked into another's fleet, and one that could pull would take it.
-- The operator's rules are applied to fresh labels in the same transaction, else a moment later. `expected`: the revision that it must have; NULL: any.
-- Whether the caller has such a device. Fails with FS400, FS403, FS409 and FS412.
CREATE FUNCTION device_change(name bytea, changes jsonb, by text, expected bigint) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	d device; fresh text[]; becomes text; buyer int;
BEGIN
	PERFORM refuse_others(changes, '{labels,lifecycle,legal_hold,tenant}', 'device');
	IF changes = '{}' THEN
		PERFORM refuse('device: labels, lifecycle, legal_hold or tenant is to change');
	END IF;
	IF changes ? 'tenant' AND changes <> jsonb_build_object('tenant', changes -> 'tenant') THEN
		PERFORM refuse('tenant: a transfer stands by itself');
	END IF;
	d := CASE WHEN changes ? 'tenant' THEN lock_ledger(find_device(name)) ELSE lock_device(find_device(name)) END;
	IF d.device_id IS NULL THEN
		RETURN false;
	END IF;
	IF expected <> d.revision THEN
		RAISE EXCEPTION 'The device is at revision %, not %.', d.revision, expected USING ERRCODE = 'FS412';
	END IF;
	IF changes ? 'tenant' THEN
		IF coalesce(role_context() <> 'operator', tenant_context() IS NOT NULL) THEN
			RAISE EXCEPTION 'A transfer is the operator''s to make.' USING ERRCODE = 'FS403';
		END IF;
		buyer := (SELECT t.tenant_id FROM tenant t WHERE t.id = read_text(changes, 'tenant', 63, true));
		IF buyer IS NULL THEN
			PERFORM refuse('tenant: there is no such tenant');
		ELSIF buyer = d.tenant_id THEN
			RAISE EXCEPTION 'The device is that tenant''s already.' USING ERRCODE = 'FS409';
		END IF;
		PERFORM device_transfer(d, buyer, by);
		RETURN true;
	END IF;
	fresh := CASE WHEN changes ? 'labels' THEN merge_labels(d.labels, changes -> 'labels') ELSE d.labels END;
	becomes := coalesce(read_text(changes, 'lifecycle', 15, changes ? 'lifecycle'), d.lifecycle);
	IF becomes NOT IN ('pending', 'active', 'retired', 'revoked', 'transferred') THEN
		PERFORM refuse('lifecycle: active, retired or revoked');
	ELSIF changes ? 'lifecycle' AND becomes = 'transferred' THEN
		PERFORM refuse('lifecycle: a transfer names the tenant');
	ELSIF changes ? 'lifecycle' THEN
		PERFORM check_becomes(d.lifecycle, becomes);
	END IF;
	IF changes ? 'legal_hold' THEN
		PERFORM device_hold(d, changes -> 'legal_hold', by);
	END IF;
	IF (fresh, becomes) IS NOT DISTINCT FROM (d.labels, d.lifecycle) THEN
		RETURN true;
	END IF;
	UPDATE device x SET labels = fresh, lifecycle = becomes, revision = x.revision + 1,
		reprovision_until = CASE WHEN becomes IN ('pending', 'active') THEN x.reprovision_until END WHERE x.device_id = d.device_id;
	IF fresh <> d.labels THEN
		PERFORM judge_again(ARRAY[d.device_id], (SELECT j.revision FROM judging j WHERE j.tenant_id = 0)), recheck_held(d.tenant_id, d.device_id);
		INSERT INTO event (tenant_id, type, ueid, data) VALUES (d.tenant_id, 'device.labels', d.ueid, jsonb_build_object('labels', fresh, 'by', left(by, 255)));
	END IF;
	IF becomes <> d.lifecycle THEN
		d.lifecycle := becomes;
		PERFORM tell_lifecycle(d, by);
	END IF;
	RETURN true;
END $$;
DROP FUNCTION device_label;

-- Registers devices of a tenant before they are heard: [{"ueid", "serial", "model", "labels", "lifecycle"}]. An active one is admitted when it
-- comes with a certificate that one of the tenant's trust anchors vouches for, a pending one waits then. What it says of itself takes the place of serial
-- and model. Of each that is not right, its place in the list (from 0) and what is wrong; of those that are, nothing. Made are all or none; `dry`: none, and
-- nothing is locked either, for which others would wait.
CREATE FUNCTION devices_add(tenant int, documents jsonb, by text, dry boolean) RETURNS TABLE (place int, member text, fault text) LANGUAGE plpgsql
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	r record; labels_of text[]; ueids bytea[] := '{}'; serials text[] := '{}'; models text[] := '{}'; lives text[] := '{}';
	labels jsonb[] := '{}'; places int[] := '{}'; faults int := 0; made int;
BEGIN
	FOR r IN SELECT (n - 1)::int AS place, x FROM jsonb_array_elements(documents) WITH ORDINALITY u (x, n) LOOP
		BEGIN
			member := 'ueid';
			IF coalesce(jsonb_typeof(r.x -> 'ueid') <> 'string' OR r.x ->> 'ueid' !~ '^01[0-9a-f]{32}$', true) THEN
				PERFORM refuse('ueid: 34 lower-case hex digits that begin with 01');
			END IF;
			member := 'lifecycle';
			IF coalesce(r.x ->> 'lifecycle', 'active') NOT IN ('pending', 'active') THEN
				PERFORM refuse('lifecycle: active or pending');
			END IF;
			member := 'serial';
			serials := serials || read_text(r.x, 'serial', 255, false);
			member := 'model';
			models := models || read_text(r.x, 'model', 255, false);
			member := 'labels';
			labels_of := merge_labels('{}', coalesce(r.x -> 'labels', '{}'));
			labels := labels || to_jsonb(labels_of);
			ueids := ueids || decode(r.x ->> 'ueid', 'hex');
			lives := lives || coalesce(r.x ->> 'lifecycle', 'active');
			places := places || r.place;
		EXCEPTION WHEN SQLSTATE 'FS400' THEN
			place := r.place;
			fault := SQLERRM;
			faults := faults + 1;
			RETURN NEXT;
		END;
	END LOOP;
	-- The ones that somebody has, or had: who deleted a device may have it again. And of two of the same in the list, the second.
	FOR r IN SELECT u.n, u.place, b.removed FROM unnest(ueids, places) WITH ORDINALITY u (ueid, place, n), LATERAL (
		SELECT NOT bool_or(d.tenant_id <> tenant OR d.lifecycle <> 'deleted') AS removed FROM device d WHERE d.ueid = u.ueid
			AND (d.lifecycle <> 'transferred' OR d.tenant_id = tenant)
			AND (d.tenant_id <> tenant OR d.lifecycle <> 'deleted' OR EXISTS (SELECT FROM device_purge p WHERE p.device_id = d.device_id))) b
		WHERE b.removed IS NOT NULL OR EXISTS (SELECT FROM unnest(ueids) WITH ORDINALITY o (ueid, n) WHERE o.ueid = u.ueid AND o.n < u.n) LOOP
		place := r.place;
		member := 'ueid';
		fault := CASE WHEN r.removed THEN 'ueid: what the device of that name had told is still being removed' ELSE 'ueid: that name is taken' END;
		faults := faults + 1;
		RETURN NEXT;
	END LOOP;
	IF faults > 0 OR dry THEN
		RETURN;
	END IF;
	INSERT INTO device AS d (tenant_id, ueid, lifecycle, serial, hwmodel, labels)
		SELECT tenant, u.ueid, u.lifecycle, u.serial, u.model, ARRAY(SELECT jsonb_array_elements_text(u.labels))
		FROM unnest(ueids, lives, serials, models, labels) WITH ORDINALITY u (ueid, lifecycle, serial, model, labels, n) ORDER BY u.n
		ON CONFLICT (ueid, tenant_id) DO UPDATE SET lifecycle = EXCLUDED.lifecycle, serial = EXCLUDED.serial, hwmodel = EXCLUDED.hwmodel,
			labels = EXCLUDED.labels, deleted_at = NULL, created_at = now(), posture_since = now(), revision = d.revision + 1
			WHERE d.lifecycle = 'deleted';
	GET DIAGNOSTICS made = ROW_COUNT;
	IF made < cardinality(ueids) THEN
		RAISE unique_violation;
	END IF;
	-- Collectors have those that were deleted in memory.
	PERFORM pg_notify('fleetstate_device', encode(d.ueid, 'hex')) FROM device d WHERE d.ueid = ANY (ueids) AND d.tenant_id = tenant AND d.revision > 1;
	INSERT INTO event (tenant_id, type, ueid, data)
		SELECT tenant, 'device.lifecycle', u.ueid, jsonb_build_object('lifecycle', u.lifecycle, 'by', left(by, 255))
		FROM unnest(ueids, lives) WITH ORDINALITY u (ueid, lifecycle, n) ORDER BY u.n;
END $$;
-- Devices of a tenant that nobody heard yet.
CREATE INDEX device_unheard ON device (tenant_id) WHERE first_seen IS NULL AND deleted_at IS NULL;
-- How many more the tenant that is signed in may register, if it may have `most` that nobody heard; 0: any number, and so may an operator.
CREATE FUNCTION registrations_left(most bigint) RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
	SELECT CASE WHEN most = 0 OR role_context() = 'operator' THEN 9223372036854775807 ELSE
		most - (SELECT count(*) FROM (SELECT FROM device d WHERE d.tenant_id = (SELECT tenant_context()) AND d.first_seen IS NULL AND d.deleted_at IS NULL LIMIT most) x) END
$$;

-- One, of the tenant that is signed in. Fails with FS400, FS409 if its name is taken, and FS40R if it would be one too many.
CREATE FUNCTION device_add(document jsonb, by text, most bigint) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	f record;
BEGIN
	PERFORM refuse_others(document, '{ueid,serial,model,labels,lifecycle,tenant}', 'device');
	IF registrations_left(most) < 1 THEN
		RAISE EXCEPTION 'At most %.', most USING ERRCODE = 'FS40R';
	END IF;
	SELECT * INTO f FROM devices_add(tenant_context(), jsonb_build_array(document), by, false);
	IF FOUND THEN
		RAISE EXCEPTION '%', f.fault USING ERRCODE = CASE WHEN f.fault ~ '(taken|removed)$' THEN 'FS409' ELSE 'FS400' END;
	END IF;
END $$;

-- A part of a list; other parts of it may follow in the transaction.
CREATE FUNCTION devices_import(documents jsonb, by text, dry boolean) RETURNS TABLE (place int, member text, fault text) LANGUAGE sql SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$ SELECT * FROM devices_add(tenant_context(), documents, by, dry) $$;

-- As before, of the tenant's own device, or of the one where its reports go.
CREATE OR REPLACE FUNCTION challenge_ask(device bytea, seconds int, who text, OUT item json, OUT created boolean)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	d device; c challenge;
BEGIN
	SELECT * INTO d FROM device x WHERE x.device_id = find_device(device);
	IF NOT FOUND THEN
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
CREATE OR REPLACE FUNCTION revoke_key(device bytea, key bytea, why text) RETURNS boolean LANGUAGE plpgsql SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	id bigint; tenant int;
BEGIN
	UPDATE device_key k SET status = 'revoked', revoked_at = now(), revoked_why = why FROM device d
		WHERE d.ueid = device AND d.lifecycle <> 'transferred' AND k.device_id = d.device_id AND k.kid = key AND k.status <> 'revoked' RETURNING d.device_id, d.tenant_id INTO id, tenant;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	INSERT INTO event (tenant_id, type, ueid, data) VALUES (tenant, 'device.key-revoked', device, jsonb_build_object('kid', encode(key, 'hex'), 'why', why));
	IF NOT EXISTS (SELECT FROM device_key k WHERE k.device_id = id AND k.status = 'active') THEN
		PERFORM lock_verdicts(ARRAY[id]);
		PERFORM mark_devices(ARRAY[id], '{revoked-key}', '{1}');
	END IF;
	PERFORM pg_notify('fleetstate_device', encode(device, 'hex'));
	RETURN true;
END $$;
CREATE OR REPLACE FUNCTION vouch_epoch(device bytea, wanted bigint) RETURNS boolean LANGUAGE plpgsql SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	id bigint; tenant int; top bigint;
BEGIN
	-- In the order of ingest: the ledger's row, the verdict, the device.
	SELECT d.device_id INTO id FROM device d WHERE d.ueid = device AND d.lifecycle <> 'transferred';
	PERFORM FROM device_hot h WHERE h.device_id = id FOR UPDATE;
	PERFORM lock_verdicts(ARRAY[id]);
	SELECT d.device_id, d.tenant_id INTO id, tenant FROM device d WHERE d.ueid = device AND d.lifecycle IN ('pending', 'active') FOR NO KEY UPDATE;
	UPDATE device_epoch e SET vouched = true WHERE e.device_id = id AND e.epoch = wanted AND NOT e.vouched RETURNING e.hi INTO top;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	UPDATE device_epoch e SET hi = h.hi FROM device_hot h WHERE h.device_id = id AND e.device_id = id AND e.epoch = h.epoch;
	-- Collectors that hold the former row miss when they move it, and read this one. Without facts the device is asked for its state.
	UPDATE device_hot h SET rev = h.rev + 1, epoch = wanted, hi = top, facts = NULL,
		head = (SELECT r.sha256 FROM report r WHERE r.device_id = id AND r.epoch = wanted AND r.seq = top AND r.flags & 2 = 0 LIMIT 1),
		sections_head = (SELECT r.sha256 FROM report_full r WHERE r.device_id = id AND r.epoch = wanted AND r.flags & 2 = 0 ORDER BY r.seq DESC LIMIT 1),
		gaps = EXISTS (SELECT FROM report_gap g WHERE g.device_id = id AND g.epoch = wanted)
		WHERE h.device_id = id;
	INSERT INTO event (tenant_id, type, ueid, data) VALUES (tenant, 'device.reprovision', device, jsonb_build_object('epoch', epoch_hex(wanted)));
	IF NOT EXISTS (SELECT FROM device_epoch e WHERE e.device_id = id AND NOT e.vouched) THEN
		PERFORM mark_devices(ARRAY[id], '{second-epoch}', '{0}');
	END IF;
	PERFORM pg_notify('fleetstate_device', encode(device, 'hex'));
	RETURN true;
END $$;

-- Signs a request in that is about no tenant, or all: an operator's needs to name none. Everybody else's is as sign_in has it.
CREATE FUNCTION sign_in_operator(token_hash bytea, wanted text, OUT tenant_id int, OUT role text, OUT scopes text)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	k record;
BEGIN
	SELECT c.role, c.name, array_to_string(c.scopes, ' ') AS scopes INTO k FROM credential(token_hash) c WHERE c.role = 'operator' AND wanted IS NULL;
	IF FOUND THEN
		PERFORM set_context(NULL, k.role, k.name);
		sign_in_operator.role := k.role;
		sign_in_operator.scopes := k.scopes;
	ELSE
		SELECT s.tenant_id, s.role, s.scopes INTO sign_in_operator.tenant_id, sign_in_operator.role, sign_in_operator.scopes FROM sign_in(token_hash, wanted) s;
	END IF;
END $$;

-- Tenants, and the authorities that vouch for their devices: an operator's to see and make.
CREATE FUNCTION is_operator() RETURNS boolean LANGUAGE sql STABLE AS $$ SELECT coalesce(role_context() = 'operator', false) $$;
CREATE FUNCTION tenant_list() RETURNS TABLE (item text, tenant_id int, id text) LANGUAGE sql STABLE SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
	SELECT json_build_object('id', t.id, 'name', t.name, 'created_at', rfc3339(t.created_at),
			'devices', (SELECT coalesce(sum(c.n), 0)::int8 FROM fleet_count c WHERE c.tenant_id = t.tenant_id))::text, t.tenant_id, t.id
		FROM tenant t WHERE (SELECT is_operator()) AND t.tenant_id = coalesce((SELECT tenant_context()), t.tenant_id)
$$;
-- Fails with FS400 and FS409.
CREATE FUNCTION tenant_add(id text, name text) RETURNS int LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	made int;
BEGIN
	IF NOT (is_operator() AND tenant_context() IS NULL) THEN
		RAISE EXCEPTION 'Tenants are the operator''s to make, who names none.' USING ERRCODE = 'FS403';
	ELSIF id !~ '^[a-z0-9][a-z0-9-]{0,62}$' THEN
		PERFORM refuse('id: 1 to 63 of a-z, 0-9 and -, beginning with a letter or a digit');
	ELSIF length(name) NOT BETWEEN 1 AND 255 THEN
		PERFORM refuse('name: 1 to 255 characters');
	END IF;
	INSERT INTO tenant (id, name) VALUES (id, name) ON CONFLICT DO NOTHING RETURNING tenant_id INTO made;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'There is a tenant % already.', id USING ERRCODE = 'FS409';
	END IF;
	RETURN made;
END $$;
CREATE FUNCTION trust_anchor_list() RETURNS TABLE (item text, trust_anchor_id int) LANGUAGE sql STABLE SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
	SELECT json_build_object('id', a.trust_anchor_id, 'tenant', t.id, 'name', a.name, 'enrol', a.enrol, 'sha256', encode(sha256(a.certificate), 'hex'),
			'created_at', rfc3339(a.created_at))::text, a.trust_anchor_id
		FROM trust_anchor a JOIN tenant t ON t.tenant_id = a.tenant_id WHERE (SELECT is_operator()) AND a.tenant_id = coalesce((SELECT tenant_context()), a.tenant_id)
$$;
-- The caller has judged the certificate. Collectors hear of it. Fails with FS403 and FS409.
CREATE FUNCTION trust_anchor_add(certificate bytea, name text, enrol text) RETURNS int LANGUAGE plpgsql SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	made int;
BEGIN
	IF NOT is_operator() OR tenant_context() IS NULL THEN
		RAISE EXCEPTION 'Trust anchors are the operator''s to make, of a tenant.' USING ERRCODE = 'FS403';
	END IF;
	INSERT INTO trust_anchor (tenant_id, name, certificate, enrol) VALUES (tenant_context(), name, certificate, enrol)
		ON CONFLICT DO NOTHING RETURNING trust_anchor_id INTO made;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'It is a trust anchor of the tenant already.' USING ERRCODE = 'FS409';
	END IF;
	NOTIFY fleetstate_trust_anchor;
	RETURN made;
END $$;
CREATE FUNCTION trust_anchor_remove(id bigint) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
BEGIN
	DELETE FROM trust_anchor a WHERE a.trust_anchor_id = id AND is_operator() AND a.tenant_id = coalesce(tenant_context(), a.tenant_id);
	IF FOUND THEN
		NOTIFY fleetstate_trust_anchor;
	END IF;
	RETURN FOUND;
END $$;

REVOKE ALL ON FUNCTION sign_in_operator, tenant_list, tenant_add, trust_anchor_list, trust_anchor_add, trust_anchor_remove FROM PUBLIC;
GRANT EXECUTE ON FUNCTION sign_in_operator, tenant_list, tenant_add, trust_anchor_list, trust_anchor_add, trust_anchor_remove TO fleetstate_api;
REVOKE ALL ON FUNCTION find_device, lock_device, lock_ledger, merge_labels, tell_lifecycle, check_becomes, device_transfer, device_change, devices_add, device_add,
	devices_import, registrations_left FROM PUBLIC;
GRANT EXECUTE ON FUNCTION device_change, device_add, devices_import, registrations_left TO fleetstate_api;
