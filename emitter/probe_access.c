#include "emitter/probes.h"

void
probe_access(struct probe *p)
{
	for (unsigned fact = FACT_ACCESS_ACCOUNTS; fact <= FACT_ACCESS_SSH_MATCH; fact++)
		facts_unknown(p->facts, (enum fact)fact, "no probe looks at this yet");
}

void
probe_logins(struct probe *p)
{
	for (unsigned fact = FACT_ACCESS_FAILED_LOGINS; fact <= FACT_ACCESS_FAILED_LOGINS; fact++)
		facts_unknown(p->facts, (enum fact)fact, "no probe looks at this yet");
}
