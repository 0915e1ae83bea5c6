#include "emitter/probes.h"
#include "emitter/update_apt.h"

/* What could say which updates wait. The first that is there counts. */
static const struct {
	const char *path;
	void (*run)(struct probe *); /* NULL: */
	const char *why;
} sources[] = {
	{"var/lib/dpkg/status", apt_pending, NULL},
	{"usr/lib/opkg/status", NULL, "opkg keeps its lists in memory only"},
	{"var/lib/opkg/status", NULL, "opkg keeps its lists in memory only"},
	{"lib/apk/db/installed", NULL, "apk's indexes are not read"},
	{"usr/lib/apk/db/installed", NULL, "apk's indexes are not read"},
	{"usr/lib/sysimage/rpm", NULL, "dnf's metadata is not read"},
	{"var/lib/rpm", NULL, "dnf's metadata is not read"},
};

void
probe_pending(struct probe *p)
{
	for (size_t i = 0; i < sizeof sources / sizeof sources[0]; i++) {
		if (!source_exists(p->source, sources[i].path))
			continue;
		if (sources[i].run) {
			sources[i].run(p);
			return;
		}
		for (unsigned fact = FACT_UPDATE_PENDING; fact <= FACT_UPDATE_PENDING_NAMES; fact++)
			facts_unknown(p->facts, (enum fact)fact, sources[i].why);
		return;
	}
	for (unsigned fact = FACT_UPDATE_PENDING; fact <= FACT_UPDATE_PENDING_NAMES; fact++)
		facts_unknown(p->facts, (enum fact)fact, "nothing here lists what could be updated");
}
