"""MuJoCo's C functions and the fields of mjData that move, for code that numba compiles.

Import it before anything of LIBERO's that numba compiles: it says where the machine code is kept.
"""

from __future__ import annotations

import ctypes
import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

import mujoco
import numba
import numpy as np
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from evalkit.paths import cache_folder
from suites.common.machine_code import ADDRESS, function

#: The files whose code calls one another's.
_SOURCES = ("../common/machine_code.py", "compiled.py", "control.py", "osc.py", "solver.py", "requirements.txt")


def _cache() -> Path:
    """A folder of its own for each state of `_SOURCES`: numba notices a file that changed, but not one it calls."""
    sources = b"".join((Path(__file__).parent / name).read_bytes() for name in _SOURCES)
    return cache_folder() / f"libero-compiled-{hashlib.sha256(sources).hexdigest()[:10]}"


numba.config.CACHE_DIR = str(_cache())

_address, _int = ADDRESS, types.int32
_stage = (_address, _address)

mj_fwd_actuation = function("mj_fwdActuation", *_stage)
mj_fwd_acceleration = function("mj_fwdAcceleration", *_stage)
mj_fwd_constraint = function("mj_fwdConstraint", *_stage)
mj_sensor_acc = function("mj_sensorAcc", *_stage)
mj_check_acc = function("mj_checkAcc", *_stage)
mj_euler = function("mj_Euler", *_stage)
mj_jac_site = function("mj_jacSite", *_stage, _address, _address, _int)
mj_mul_m = function("mj_mulM", *_stage, _address, _address)
mj_mul_jac_vec = function("mj_mulJacVec", *_stage, _address, _address)
mj_add_m_dense = function("mj_addMDense", *_stage, _address)
mj_constraint_update = function("mj_constraintUpdate", *_stage, _address, _address, _int)
mju_dot = function("mju_dot", _address, _address, _int, returns=types.float64)
mju_norm = function("mju_norm", _address, _int, returns=types.float64)
mju_sqr_mat_td = function("mju_sqrMatTD", _address, _address, _address, _int, _int)
mju_chol_factor = function("mju_cholFactor", _address, _int, types.float64, returns=_int)
mju_chol_solve = function("mju_cholSolve", _address, _address, _address, _int)
mju_chol_update = function("mju_cholUpdate", _address, _address, _int, _int, returns=_int)


@intrinsic
def _pointer(context, address):
    """A pointer to `address`."""
    def generate(_, builder, signature, arguments):
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(types.intp), generate


@njit(cache=True)
def floats(address, size):
    """The float64 array (size,) at `address`."""
    return carray(_pointer(address), (size,), np.float64)


@njit(cache=True)
def integers(address, size):
    """The int32 array (size,) at `address`."""
    return carray(_pointer(address), (size,), np.int32)


@njit(cache=True)
def follow(address):
    """The address that is stored at `address`."""
    return carray(_pointer(address), (1,), np.int64)[0]


class Offsets(NamedTuple):
    """Bytes from the start of mjData to its number of constraints and to its pointers to constraints and contacts,
    which MuJoCo allocates anew in every step; `contact_` ones are bytes within a contact."""

    nefc: int
    efc_type: int
    efc_id: int
    efc_J: int
    efc_D: int
    efc_R: int
    efc_frictionloss: int
    efc_aref: int
    efc_b: int
    efc_state: int
    contact: int
    contact_mu: int
    contact_friction: int
    contact_H: int
    contact_dim: int
    contact_size: int


#: Seven balls on a floor: a model whose constraints are counted at will.
_BALLS = f"""<mujoco><worldbody><geom type="plane" size="9 9 1"/>{"".join(
    f'<body pos="{place} 0 1"><freejoint/><geom size=".1"/></body>' for place in range(7))}</worldbody></mujoco>"""


@cache
def find_offsets() -> Offsets:
    """Where this MuJoCo's mjData keeps what `Offsets` names: where memory holds what the mujoco package reports, for
    several numbers of contacts."""
    model = mujoco.MjModel.from_xml_string(_BALLS)
    data, places = mujoco.MjData(model), {}
    for touching in (7, 2, 5, 3):
        data.qpos[2::7] = np.where(np.arange(7) < touching, 0.05, 1.0)  # heights of balls of radius 0.1
        mujoco.mj_fwdPosition(model, data)
        memory = _memory(data)
        for name in Offsets._fields:
            if name.startswith("efc_"):
                agree = np.flatnonzero(memory.view(np.int64) == _address_of(getattr(data, name))) * 8
            elif name == "nefc":
                agree = np.flatnonzero(memory.view(np.int32) == data.nefc) * 4
            elif name == "contact":
                agree = np.flatnonzero(memory.view(np.int64) == _address_of(data.contact.dist)) * 8
            elif name == "contact_size":
                agree = [data.contact.dist.strides[0]]
            else:
                field = getattr(data.contact, name.removeprefix("contact_"))
                agree = [_address_of(field) - _address_of(data.contact.dist)]
            places[name] = [place for place in places.get(name, agree) if place in agree]
    # MuJoCo's arena begins with the contacts, so either of the two pointers will do for them.
    several = {name: found for name, found in places.items() if len(found) != 1 and name != "contact"}
    if several or not places["contact"]:
        raise RuntimeError(f"mujoco {mujoco.__version__}: layout of mjData not recognised: {several}")
    return Offsets(*(int(places[name][0]) for name in Offsets._fields))


def _memory(data: mujoco.MjData) -> np.ndarray:
    """A copy of mjData from its start to the pointer to efc_state, as bytes."""
    end, last = 0, _address_of(data.efc_state)
    while ctypes.c_int64.from_address(data._address + end).value != last:
        end += 8
    return np.frombuffer(ctypes.string_at(data._address, end + 8), np.uint8)


def _address_of(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]
