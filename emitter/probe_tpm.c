#include "emitter/probes.h"

void
probe_tpm(struct probe *p)
{
	for (unsigned fact = FACT_DEVICE_ENDORSEMENT_KEY_SHA256; fact <= FACT_DEVICE_PERMANENT_MACS; fact++)
		facts_unknown(p->facts, (enum fact)fact, "no probe looks at this yet");
}
