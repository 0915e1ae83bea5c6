# fleetstate. `make run` and `make check` install what they need; `make help` lists the rest.

CC       ?= cc
VERSION  := 0.1.0
comma    := ,
BUILD    ?= build
PREFIX   ?= /usr/local
# SANITIZE=address,undefined or thread: a build of its own beside the plain one.
SANITIZE ?=

# A sanitized build is for tests alone: lines and functions are all that its reports need, and to compile it takes longer than what -O2 saves its runs.
ifneq ($(SANITIZE),)
CFLAGS   ?= -O1 -g1
OUT      := $(BUILD)/sanitize-$(subst $(comma),-,$(SANITIZE))
SANFLAGS := -fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer
else
OUT      := $(BUILD)
SANFLAGS :=
endif

WARN     := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Werror
CFLAGS   ?= -O2 -g
CPPFLAGS += -I. -D_GNU_SOURCE -DFLEETSTATE_VERSION='"$(VERSION)"' -isystem /usr/include/postgresql
FLAGS    := -std=c11 $(WARN) -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fPIE $(SANFLAGS)
ifneq ($(SANITIZE),)
FLAGS    := $(filter-out -D_FORTIFY_SOURCE=2,$(FLAGS))
endif
LDFLAGS  += -pie -Wl,-z,relro,-z,now $(SANFLAGS)

# What only tests run is linked by a quicker linker, where there is one. Both archives have settings.o, of which lld would take both, and gold has much
# to say of clang's sanitizers.
link_by   = $(if $(shell command -v ld.$(1)),-fuse-ld=$(1))
UNIT_LD  := $(call link_by,gold)
FUZZ_LD  := $(call link_by,lld)

# A time that is over wherever this runs; the same for the same sources if SOURCE_DATE_EPOCH says so.
BUILT    := $(or $(SOURCE_DATE_EPOCH),$(shell stat -c %Y Makefile))

# In the order of the flow.
SCHEMA := \
	schema/reason.c \
	schema/topics.c \
	schema/version.c \
	schema/purl.c \
	schema/cbor_item.c \
	schema/cbor.c \
	schema/ecdsa.c \
	schema/key.c \
	schema/cose.c \
	schema/baseline.c \
	schema/facts_table.c \
	schema/facts.c \
	schema/facts_encode.c \
	schema/facts_section.c \
	schema/claims.c \
	schema/events.c \
	schema/report.c \
	schema/receipt.c \
	schema/merkle.c \
	schema/checkpoint.c \
	schema/manifest.c \
	schema/proof.c \
	schema/options.c \
	schema/log.c \
	schema/program.c

EMITTER := \
	emitter/settings.c \
	emitter/runner.c \
	emitter/confine.c \
	emitter/self.c \
	emitter/collect.c \
	emitter/source.c \
	emitter/glob.c \
	emitter/text.c \
	emitter/mounts.c \
	emitter/boot_arguments.c \
	emitter/verity.c \
	emitter/modprobe.c \
	emitter/serial.c \
	emitter/kernel.c \
	emitter/measured.c \
	emitter/netlink.c \
	emitter/netfilter.c \
	emitter/tpm.c \
	emitter/links.c \
	emitter/expected.c \
	emitter/firewall_conf.c \
	emitter/systemd.c \
	emitter/probe_identity.c \
	emitter/probe_hardware.c \
	emitter/probe_os.c \
	emitter/probe_boot.c \
	emitter/probe_packages.c \
	emitter/paragraph.c \
	emitter/dpkg.c \
	emitter/apk.c \
	emitter/child.c \
	emitter/rpm.c \
	emitter/components.c \
	emitter/probe_interfaces.c \
	emitter/probe_clock.c \
	emitter/probe_tpm.c \
	emitter/probe_ports.c \
	emitter/probe_firewall.c \
	emitter/probe_pending.c \
	emitter/update_apt.c \
	emitter/apt_conf.c \
	emitter/apt_policy.c \
	emitter/unpack.c \
	emitter/probe_update.c \
	emitter/update_trust.c \
	emitter/update_slots.c \
	emitter/update_conf.c \
	emitter/probe_configuration.c \
	emitter/probe_packaged.c \
	emitter/conffiles.c \
	emitter/probe_authority.c \
	emitter/sudoers.c \
	emitter/probe_restore.c \
	emitter/probe_access.c \
	emitter/accounts.c \
	emitter/ssh_server.c \
	emitter/sshd_config.c \
	emitter/dropbear.c \
	emitter/lockout.c \
	emitter/pam.c \
	emitter/default_password.c \
	emitter/btmp.c \
	emitter/probe_data.c \
	emitter/volumes.c \
	emitter/probe_cryptography.c \
	emitter/crypto_library.c \
	emitter/openssl_conf.c \
	emitter/probe_integrity.c \
	emitter/probe_health.c \
	emitter/probe_declared.c \
	emitter/forwarding.c \
	emitter/probe_forwarding.c \
	emitter/probe_self.c \
	emitter/stated.c \
	emitter/monitor_rules.c \
	emitter/monitor.c \
	emitter/personal.c \
	emitter/durable.c \
	emitter/events.c \
	emitter/log_message.c \
	emitter/utmp.c \
	emitter/uevent.c \
	emitter/witness_logs.c \
	emitter/witness_files.c \
	emitter/witness_usb.c \
	emitter/witness_sockets.c \
	emitter/witness_packages.c \
	emitter/witness.c \
	emitter/time_floor.c \
	emitter/compose.c \
	emitter/sign.c \
	emitter/account.c \
	emitter/segment.c \
	emitter/spool.c \
	emitter/reclaim.c \
	emitter/repeat.c \
	emitter/journal.c \
	emitter/publish.c \
	emitter/receipt_trust.c \
	emitter/receipts.c \
	emitter/quarantine.c \
	emitter/courier.c \
	emitter/pipeline.c

COLLECTOR := \
	collector/settings.c \
	collector/database.c \
	collector/migrate.c \
	collector/counters.c \
	collector/clock.c \
	collector/lease.c \
	collector/budget.c \
	collector/subscribe.c \
	collector/queue.c \
	collector/workers.c \
	collector/keyring.c \
	collector/keyring_rows.c \
	collector/key_cache.c \
	collector/crl.c \
	collector/enrol.c \
	collector/verify.c \
	collector/ledger.c \
	collector/audit.c \
	collector/judge.c \
	collector/admit.c \
	collector/learn.c \
	collector/record.c \
	collector/store_sql.c \
	collector/rows.c \
	collector/transaction.c \
	collector/store.c \
	collector/gaps.c \
	collector/seal.c \
	collector/answer.c \
	collector/challenge.c \
	collector/evaluate.c \
	collector/upkeep.c \
	collector/watch.c \
	collector/outbox.c \
	collector/checkpoint.c \
	collector/guard.c \
	collector/draft.c \
	collector/event_kind.c \
	collector/event.c \
	collector/code_point.c \
	collector/format_native.c \
	collector/format_ocsf.c \
	collector/format_ecs.c \
	collector/format_cef.c \
	collector/format_cloudevents.c \
	collector/format_event.c \
	collector/format_rfc5424.c \
	collector/vault.c \
	collector/sink_new.c \
	collector/sink_webhook.c \
	collector/sink_syslog.c \
	collector/lane.c \
	collector/forward.c \
	collector/pipeline.c \
	collector/client_trust.c \
	collector/tls.c \
	collector/peers.c \
	collector/link.c \
	collector/framing.c \
	collector/listen.c \
	collector/serve.c \
	collector/turns.c \
	collector/feed.c \
	collector/routes.c \
	collector/words.c \
	collector/request.c \
	collector/body.c \
	collector/response.c \
	collector/packer.c \
	collector/etag.c \
	collector/negotiate.c \
	collector/auth.c \
	collector/source.c \
	collector/guess.c \
	collector/quota.c \
	collector/client_certificate.c \
	collector/jwt.c \
	collector/jwks.c \
	collector/identity.c \
	collector/journal.c \
	collector/repeat.c \
	collector/query_pool.c \
	collector/query.c \
	collector/query_sql.c \
	collector/revision.c \
	collector/cursor.c \
	collector/csv.c \
	collector/members.c \
	collector/format_device.c \
	collector/format_ocsf_device.c \
	collector/export.c \
	collector/page.c \
	collector/api_fleet.c \
	collector/api_devices.c \
	collector/api_inventory.c \
	collector/format_inventory.c \
	collector/api_import.c \
	collector/import.c \
	collector/tally.c \
	collector/version_range.c \
	collector/purl_search.c \
	collector/component_search.c \
	collector/device_list.c \
	collector/api_components.c \
	collector/api_challenges.c \
	collector/format_asset.c \
	collector/api_assets.c \
	collector/api_manifests.c \
	collector/api_reports.c \
	collector/api_proofs.c \
	collector/api_sinks.c \
	collector/api_tokens.c \
	collector/api_tenants.c \
	collector/api_audit.c \
	collector/api_policies.c \
	collector/api_alerts.c \
	collector/api_events.c \
	collector/api_metrics.c \
	collector/api_system.c \
	collector/assets.S

CLI := \
	collector/cli/main.c \
	collector/cli/over_http.c \
	collector/cli/tenant.c \
	collector/cli/trust_anchor.c \
	collector/cli/token.c \
	collector/cli/device.c \
	collector/cli/import.c \
	collector/cli/key.c \
	collector/cli/sink.c \
	collector/cli/audit.c \
	collector/cli/audit_checkpoints.c \
	collector/cli/audit_log.c \
	collector/cli/policy.c \
	collector/cli/alert.c \
	collector/cli/verify.c \
	collector/cli/verify_proof.c \
	collector/cli/verify_manifest.c \
	collector/cli/baseline.c \
	collector/cli/migrate.c \
	collector/cli/operation.c \
	collector/cli/call.c \
	collector/cli/show.c \
	collector/cli/wish.c \
	collector/cli/output.c \
	collector/cli/remote.c \
	collector/cli/completion.c

SCHEMA_LIBS    := -lcbor -ljansson -lcrypto -linih -lm
EMITTER_LIBS   := -lseccomp -lcap-ng -lpaho-mqtt3as -lssl -lcrypto -lpthread
COLLECTOR_LIBS := -lpaho-mqtt3as -lmicrohttpd -lgnutls -lcurl -lpq -lssl -lcrypto -lsystemd -lcsv -lz -lzstd -lpthread

objects = $(patsubst %.S,$(OUT)/%.o,$(patsubst %.c,$(OUT)/%.o,$(1)))

PROGRAMS := $(OUT)/fleetstate-emitter $(OUT)/fleetstate-collector $(OUT)/fleetstate

all: $(PROGRAMS)

help:
	@sed -n 's/^## //p' Makefile

# Which sources changed names decides what an old archive may hold, so archives are made anew.
$(OUT)/libschema.a: $(call objects,$(SCHEMA))
$(OUT)/libemitter.a: $(call objects,$(EMITTER))
$(OUT)/libcollector.a: $(call objects,$(COLLECTOR))
$(OUT)/%.a:
	@rm -f $@
	ar rcs $@ $^

$(OUT)/fleetstate-emitter: $(call objects,emitter/main.c emitter/status.c) $(OUT)/libemitter.a $(OUT)/libschema.a
	$(CC) $(LDFLAGS) -o $@ $^ $(EMITTER_LIBS) $(SCHEMA_LIBS)
$(OUT)/fleetstate-collector: $(OUT)/collector/main.o $(OUT)/libcollector.a $(OUT)/libschema.a
	$(CC) $(LDFLAGS) -o $@ $^ $(COLLECTOR_LIBS) $(SCHEMA_LIBS)
$(OUT)/fleetstate: $(call objects,$(CLI)) $(OUT)/libcollector.a $(OUT)/libschema.a
	$(CC) $(LDFLAGS) -o $@ $^ $(COLLECTOR_LIBS) $(SCHEMA_LIBS)

$(OUT)/emitter/time_floor.o: CPPFLAGS += -DFLEETSTATE_BUILT=UINT64_C\($(BUILT)\)
$(OUT)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(FLAGS) -MMD -MP -c -o $@ $<
$(OUT)/%.o: %.S
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) -Wa,-I$(OUT) -MMD -MP -c -o $@ $<
$(OUT)/collector/assets.o: $(wildcard dashboards/web/* schema/sql/*.sql schema/openapi.yaml) $(OUT)/openapi.html

# The interface's description as a page.
$(OUT)/openapi.html: schema/openapi.yaml dashboards/reference
	@mkdir -p $(@D)
	dashboards/reference $< >$@

# What it says of lists and parameters, for the command line.
$(OUT)/collector/cli/described.def: schema/openapi.yaml collector/cli/described
	@mkdir -p $(@D)
	collector/cli/described $< >$@
$(OUT)/collector/cli/operation.o: $(OUT)/collector/cli/described.def
$(OUT)/collector/cli/operation.o: CPPFLAGS += -I$(OUT)/collector/cli

# Unit tests: one program a module, each linked with what it needs from the archives.
UNIT := $(patsubst tests/unit/%.c,$(OUT)/unit/%,$(wildcard tests/unit/test_*.c))
$(OUT)/unit/%: $(OUT)/tests/unit/%.o $(OUT)/libcollector.a $(OUT)/libemitter.a $(OUT)/libschema.a
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) $(UNIT_LD) -o $@ $^ -lcmocka -Wl,--as-needed $(EMITTER_LIBS) $(COLLECTOR_LIBS) $(SCHEMA_LIBS)

# Its disk notes what was asked for and what is certain.
$(OUT)/unit/test_power_cut: LDFLAGS += $(addprefix -Wl$(comma)--wrap=,openat close pwrite ftruncate renameat unlinkat mkdirat fsync fdatasync)

# The fleet simulator: the emitter's own code from the report on.
$(OUT)/fleetstate-sim: $(call objects,$(wildcard tests/sim/*.c)) $(OUT)/libemitter.a $(OUT)/libschema.a
	$(CC) $(LDFLAGS) -o $@ $^ $(EMITTER_LIBS) $(SCHEMA_LIBS)

# The wall clock that `make chaos` sets for one program.
$(OUT)/test-clock.so: tests/clock.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -std=c11 $(WARN) -fPIC -shared -o $@ $<

# The HTTP interface without a pipeline, for its tests.
$(OUT)/serve-alone: $(OUT)/tests/system/serve_alone.o $(OUT)/libcollector.a $(OUT)/libschema.a
	$(CC) $(LDFLAGS) -o $@ $^ $(COLLECTOR_LIBS) $(SCHEMA_LIBS)

# What `make bench` measures with.
$(OUT)/load $(OUT)/verify_cost: $(OUT)/%: $(OUT)/tests/bench/%.o $(OUT)/libcollector.a $(OUT)/libschema.a
	$(CC) $(LDFLAGS) -o $@ $^ $(COLLECTOR_LIBS) $(SCHEMA_LIBS)
$(OUT)/bare_paho: $(OUT)/tests/bench/bare_paho.o
	$(CC) $(LDFLAGS) -o $@ $^ $(EMITTER_LIBS)

## make run      the whole system on this machine, with 25 simulated devices
run:
	@deploy/run

unit-programs: $(UNIT)

## make unit     builds the unit tests and runs them one by one, until one fails
unit: $(UNIT)
	@for program in $(UNIT); do echo "$$program"; $$program || exit 1; done

# Fuzzers: objects of their own, by clang, for libFuzzer and the sanitizers. What a run finds new goes below build/, what is worth keeping is
# committed to the corpus by hand.
FUZZ_SECONDS ?= 60
FUZZ_CC      ?= clang
FUZZ_OUT     := $(BUILD)/fuzz
FUZZ_FLAGS   := -std=c11 $(WARN) -O1 -g1 -fno-omit-frame-pointer -fno-sanitize-recover=all
FUZZERS      := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))

$(FUZZ_OUT)/%.o: %.c
	@mkdir -p $(@D)
	$(FUZZ_CC) $(CPPFLAGS) $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link,address,undefined -MMD -MP -c -o $@ $<
# What parses: of the emitter not what has already been read, and is signed, kept and sent.
FUZZ_UNUSED  := $(addprefix emitter/,personal.c durable.c events.c witness_logs.c witness_files.c witness_usb.c witness_sockets.c witness_packages.c witness.c \
	time_floor.c compose.c sign.c account.c segment.c spool.c reclaim.c repeat.c journal.c publish.c receipts.c quarantine.c courier.c pipeline.c)
FUZZ_PARSERS := $(filter-out $(FUZZ_UNUSED),$(EMITTER) $(SCHEMA)) $(addprefix collector/,request.c body.c response.c code_point.c auth.c cursor.c etag.c negotiate.c packer.c draft.c words.c version_range.c purl_search.c crl.c import.c jwt.c client_certificate.c tally.c)
$(FUZZ_OUT)/libparsers.a: $(patsubst %.c,$(FUZZ_OUT)/%.o,$(FUZZ_PARSERS))
	@rm -f $@
	ar rcs $@ $^
$(FUZZ_OUT)/fuzz_%: $(FUZZ_OUT)/tests/fuzz/fuzz_%.o $(FUZZ_OUT)/tests/fuzz/processor_time.o $(FUZZ_OUT)/libparsers.a
	$(FUZZ_CC) -fsanitize=fuzzer,address,undefined $(FUZZ_LD) -o $@ $^ $(EMITTER_LIBS) -lcsv -lz -lzstd $(SCHEMA_LIBS)

run-fuzz_%: $(FUZZ_OUT)/fuzz_%
	@mkdir -p $(FUZZ_OUT)/corpus/$* $(FUZZ_OUT)/artifacts tests/fuzz/corpus/$*
	FUZZ_SECONDS=$(FUZZ_SECONDS) $< -timeout=10 -max_len=16384 -verbosity=0 -print_final_stats=1 \
		-artifact_prefix=$(FUZZ_OUT)/artifacts/$*- $(FUZZ_OUT)/corpus/$* tests/fuzz/corpus/$*

## make fuzz     every fuzzer for FUZZ_SECONDS (60) of a processor; what breaks one is kept in build/fuzz/artifacts
fuzz: $(addprefix run-,$(FUZZERS))

## make lint     each table against its documentation, formats, man pages
lint: all
	@FLEETSTATE_BIN=$(OUT) tests/lint/tables

## make check    installs what tests need and runs them all
check:
	@deploy/deps all
	@tests/check

## make bench    what it costs, as ratios; also build/bench.json
bench:
	@deploy/deps all
	@tests/bench/run

## make chaos    faults of all kinds under load, for 20 minutes; SHORT=1: for three; SEED=n: as that time
chaos: all $(OUT)/fleetstate-sim $(OUT)/test-clock.so
	@deploy/deps all
	@FLEETSTATE_BIN=$(OUT) tests/chaos/run $(if $(SHORT),--short) $(if $(SEED),--seed $(SEED)) $(if $(ROUNDS),--rounds $(ROUNDS))

## make install  programs, manual pages, units and examples into DESTDIR and PREFIX; nothing is started
BINDIR   := $(PREFIX)/bin
MANDIR   := $(PREFIX)/share/man
UNITDIR  := $(PREFIX)/lib/systemd/system
LIBEXEC  := $(PREFIX)/libexec/fleetstate
SHARE    := $(PREFIX)/share/fleetstate
install: all
	install -d $(addprefix $(DESTDIR),$(BINDIR) $(MANDIR)/man1 $(MANDIR)/man8 $(UNITDIR) $(PREFIX)/lib/sysusers.d $(PREFIX)/lib/tmpfiles.d \
		$(PREFIX)/share/bash-completion/completions $(PREFIX)/share/zsh/site-functions $(LIBEXEC)/mosquitto $(SHARE)/examples $(SHARE)/policies)
	install -m 0755 $(PROGRAMS) $(DESTDIR)$(BINDIR)
	install -m 0644 collector/cli/fleetstate.1 $(DESTDIR)$(MANDIR)/man1
	$(OUT)/fleetstate completion bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/fleetstate
	$(OUT)/fleetstate completion zsh >$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_fleetstate
	chmod 0644 $(DESTDIR)$(PREFIX)/share/bash-completion/completions/fleetstate $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_fleetstate
	install -m 0644 emitter/fleetstate-emitter.8 collector/fleetstate-collector.8 $(DESTDIR)$(MANDIR)/man8
	for unit in fleetstate-emitter fleetstate-collector; do \
		sed 's|@BINDIR@|$(BINDIR)|' deploy/systemd/$$unit.service >$(DESTDIR)$(UNITDIR)/$$unit.service && \
		chmod 0644 $(DESTDIR)$(UNITDIR)/$$unit.service || exit 1; done
	install -m 0644 deploy/systemd/fleetstate.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/fleetstate.conf
	install -m 0644 deploy/systemd/fleetstate.tmpfiles $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/fleetstate.conf
	install -m 0755 deploy/provision deploy/broker $(DESTDIR)$(LIBEXEC)
	install -m 0644 $(wildcard deploy/mosquitto/*) $(DESTDIR)$(LIBEXEC)/mosquitto
	install -m 0644 deploy/examples/emitter.conf deploy/examples/collector.conf $(DESTDIR)$(SHARE)/examples
	install -m 0644 $(wildcard schema/policies/*.json) $(DESTDIR)$(SHARE)/policies
	install -m 0644 schema/sql/roles.sql schema/openapi.yaml deploy/OPERATING.md $(DESTDIR)$(SHARE)

clean:
	rm -rf $(BUILD)

.PHONY: all help run unit-programs unit check bench chaos install lint fuzz clean
.DELETE_ON_ERROR:
.SECONDARY:
# Without those of the builds beside this one. What `run` builds is another make's.
ifneq ($(MAKECMDGOALS),run)
-include $(shell find $(OUT) -mindepth 1 \( -name npm -o -name 'sanitize-*' -o -name clang \) -prune -o -type f -name '*.d' -print 2>/dev/null)
endif
