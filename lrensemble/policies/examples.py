"""One readable policy of every function and alias, over a budget of about 100 epochs: for help, pictures and tests."""

from __future__ import annotations

EXAMPLES = {
    "FIX": "FIX(k0=0.1)",
    "STEP": "STEP(k0=0.1, gamma=0.3, l=25e)",
    "NSTEP": "NSTEP(k0=0.1, gamma=0.1, l=[50e, 75e])",
    "EXP": "EXP(k0=0.1, gamma=0.95, per=1e)",
    "INV": "INV(k0=0.1, gamma=0.1, p=0.75, per=1e)",
    "POLY": "POLY(k0=0.1, p=2, l=100%)",
    "SIG": "SIG(k0=0.1, gamma=-0.2, l=50e, per=1e)",
    **{
        f"{wave}{form}": f"{wave}{form}(k0=0.1, k1=0.01, l=10e{', gamma=0.97, per=1e' if form == 'EXP' else ''})"
        for wave in ("TRI", "DTRI", "SIN", "DSIN", "COS", "UPCOS")
        for form in ("", "2", "EXP")
    },
    **{
        f"{saw}{form}": f"{saw}{form}(k0=0.1, k1=0.01, l=20e{', gamma=0.97, per=1e' if form == 'EXP' else ''})"
        for saw in ("RSW", "SINRSW", "COSRSW")
        for form in ("", "2", "EXP")
    },
    "ONECYCLE": "ONECYCLE(k0=0.1)",
    "WSD": "WSD(k0=0.1, warmup=5%, decay=20%, shape=sqrt)",
    "KNEE": "KNEE(k0=0.1, warmup=5%, hold=50%)",
    "RANGE": "RANGE(k0=1e-5, k1=1, l=100%, shape=exp)",
    "SEQ": "SEQ([TRI(k0=0.1, k1=0.01, l=10e), COS(k0=0.05, l=100%)], at=[60%])",
    "WARMUP": "WARMUP(COS(k0=0.1, l=100%), l=5e)",
    "SCALE": "SCALE(COS(k0=0.1, l=100%), by=0.5, plus=0.01)",
    "CLIP": "CLIP(COS(k0=0.1, l=100%), low=0.01)",
    "REPEAT": "REPEAT(ONECYCLE(k0=0.1), l=20e, decay=0.7)",
    "POINTS": "POINTS(at=[0, 15e, 30e, 35e], k=[0, 0.1, 0.005, 0])",
    "CONSTANT": "constant(k0=0.1)",
    "CONSTANT_WITH_WARMUP": "constant_with_warmup(k0=0.1, warmup=5%)",
    "LINEAR": "linear(k0=0.1, warmup=5%)",
    "COSINE": "cosine(k0=0.1, warmup=5%)",
    "COSINE_WITH_RESTARTS": "cosine_with_restarts(k0=0.1, warmup=5%, cycles=4)",
    "POLYNOMIAL": "polynomial(k0=0.1, warmup=5%, p=2, k1=0.001)",
    "INVERSE_SQRT": "inverse_sqrt(k0=0.1, warmup=5%)",
    "SGDR": "sgdr(k0=0.1, l=10e, mult=2)",
}
