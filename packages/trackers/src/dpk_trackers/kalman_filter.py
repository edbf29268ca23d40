"""Kalman filters for the positions of many individuals, all computed at once."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

_FIELDS = 7


class MotionFilter:
    """Position and velocity of n individuals, each with a covariance of its own.

    Velocity persists for a while and fades: the Ornstein-Uhlenbeck process, which is constant
    velocity for short times and keeps an animal that is out of sight from running off. Noise is
    the same in all directions, so that one 2 x 2 covariance of (position, velocity) serves both
    axes. All of it is one (7, n) array, and time passes by one matrix product for any n.

    Parameters
    ----------
    persistence
        Frames after which a velocity has faded to 1/e.
    """

    def __init__(self, persistence: float = 20.0) -> None:
        self.persistence = float(persistence)
        # x, y, velocities, variance of position, covariance, variance of velocity
        self._state = np.empty((_FIELDS, 0))

    def __len__(self) -> int:
        return self._state.shape[1]

    @property
    def position(self) -> np.ndarray:
        """(n, 2) pixels."""
        return self._state[:2].T

    @property
    def velocity(self) -> np.ndarray:
        """(n, 2) pixels per frame."""
        return self._state[2:4].T

    @property
    def covariance(self) -> np.ndarray:
        """(n, 3) variance of position, covariance, variance of velocity."""
        return self._state[4:].T

    def add(self, position: np.ndarray, noise: np.ndarray, speed: float) -> None:
        """Begin new ones at (m, 2), with (m,) variances and a typical speed in pixels a frame."""
        new = np.zeros((_FIELDS, len(position)))
        new[:2], new[4], new[6] = position.T, noise, speed**2
        self._state = np.concatenate((self._state, new), axis=1)

    def keep(self, chosen: np.ndarray) -> None:
        """Forget all but those."""
        self._state = self._state[:, chosen]

    def predict(self, frames: float, acceleration: float) -> None:
        """Let time pass.

        Parameters
        ----------
        frames
            How much of it.
        acceleration
            Standard deviation of the change of velocity in one frame, in pixels per frame.
        """
        step, added = _passing(float(frames), self.persistence)
        self._state = step @ self._state
        self._state += acceleration**2 * added

    def warp(self, matrix: np.ndarray) -> None:
        """Move with the camera: (2, 3) from pixels of the frame before to those of this one."""
        (a, b, _), (c, d, _) = matrix.tolist()
        linear, state = matrix[:, :2], self._state
        state[:2] = linear @ state[:2] + matrix[:, 2:]
        state[2:4] = linear @ state[2:4]
        state[4:] *= abs(a * d - b * c)

    def distances(
        self, measured: np.ndarray, noise: np.ndarray | float
    ) -> tuple[np.ndarray, np.ndarray]:
        """How far measurements are from what is expected.

        Parameters
        ----------
        measured
            (m, 2) pixels.
        noise
            (m,) variances of them, or one.

        Returns
        -------
        squared
            (n, m) squared Mahalanobis distances.
        variance
            (n, m) variances of the difference, along each axis.
        """
        x, y, variances = self._state[0], self._state[1], self._state[4]
        variance = np.add.outer(variances, np.broadcast_to(noise, len(measured)))
        squared = np.square(np.subtract.outer(x, measured[:, 0]))
        squared += np.square(np.subtract.outer(y, measured[:, 1]))
        squared /= variance
        return squared, variance

    def update(self, rows: np.ndarray, measured: np.ndarray, noise: np.ndarray | float) -> None:
        """Take in the (r, 2) measurements of some of them, with (r,) variances."""
        part = self._state.take(rows, axis=1)
        gain = part[4:6] / (part[4] + noise)  # of position, of velocity
        error = measured.T - part[:2]
        part[:2] += gain[0] * error
        part[2:4] += gain[1] * error
        part[6] -= gain[1] * part[5]
        part[4:6] *= 1 - gain[0]
        self._state[:, rows] = part


@lru_cache(maxsize=256)
def _passing(frames: float, persistence: float) -> tuple[np.ndarray, np.ndarray]:
    """(7, 7) that lets time pass over a state, and the (7, 1) covariance that unit noise adds."""
    fade, way, (q_pp, q_pv, q_vv) = _transition(frames, persistence)
    step = np.zeros((_FIELDS, _FIELDS))
    step[:4, :4] = np.diag([1, 1, fade, fade]) + np.diag([way, way], 2)
    step[4:, 4:] = [[1, 2 * way, way**2], [0, fade, fade * way], [0, 0, fade**2]]
    added = np.array([0, 0, 0, 0, q_pp, q_pv, q_vv])[:, None]
    return step, added


def _transition(dt: float, tau: float) -> tuple[float, float, tuple[float, float, float]]:
    """How much velocity is left, how far it led, and the covariance that unit noise adds.

    The integrated Ornstein-Uhlenbeck process: dv = -v / tau dt + dW, dx = v dt.
    """
    if dt / tau < 1e-3:  # the closed form below would lose all its digits
        return 1 - dt / tau, dt, (dt**3 / 3, dt**2 / 2, dt)
    fade = float(np.exp(-dt / tau))
    way = tau * (1 - fade)
    q_pp = tau**2 * (dt - 2 * way + tau / 2 * (1 - fade**2))
    return fade, way, (q_pp, way**2 / 2, tau / 2 * (1 - fade**2))
