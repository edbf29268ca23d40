"""Kalman filters for the positions of many individuals, all computed at once."""

from __future__ import annotations

import numpy as np


class MotionFilter:
    """Position and velocity of n individuals, each with a covariance of its own.

    Velocity persists for a while and fades: the Ornstein-Uhlenbeck process, which is constant
    velocity for short times and keeps an animal that is out of sight from running off. Noise is
    the same in all directions, so that one 2 x 2 covariance of (position, velocity) serves both
    axes, which makes this a handful of array operations for any n.

    Parameters
    ----------
    persistence
        Frames after which a velocity has faded to 1/e.

    Attributes
    ----------
    position, velocity
        (n, 2) pixels, and pixels per frame.
    covariance
        (n, 3) variance of position, covariance, variance of velocity.
    """

    def __init__(self, persistence: float = 20.0) -> None:
        self.persistence = float(persistence)
        self.position = np.empty((0, 2))
        self.velocity = np.empty((0, 2))
        self.covariance = np.empty((0, 3))

    def __len__(self) -> int:
        return len(self.position)

    def add(self, position: np.ndarray, noise: np.ndarray, speed: float) -> None:
        """Begin new ones at (m, 2), with (m,) variances and a typical speed in pixels a frame."""
        m = len(position)
        new = np.stack([noise, np.zeros(m), np.full(m, speed**2)], axis=1)
        self.position = np.concatenate([self.position, position])
        self.velocity = np.concatenate([self.velocity, np.zeros((m, 2))])
        self.covariance = np.concatenate([self.covariance, new])

    def keep(self, chosen: np.ndarray) -> None:
        """Forget all but those."""
        self.position = self.position[chosen]
        self.velocity = self.velocity[chosen]
        self.covariance = self.covariance[chosen]

    def predict(self, frames: float, acceleration: float) -> None:
        """Let time pass.

        Parameters
        ----------
        frames
            How much of it.
        acceleration
            Standard deviation of the change of velocity in one frame, in pixels per frame.
        """
        fade, way, (q_pp, q_pv, q_vv) = _transition(frames, self.persistence)
        pp, pv, vv = self.covariance.T
        q = acceleration**2
        self.position = self.position + way * self.velocity
        self.velocity = fade * self.velocity
        self.covariance = np.stack(
            [
                pp + 2 * way * pv + way**2 * vv + q * q_pp,
                fade * (pv + way * vv) + q * q_pv,
                fade**2 * vv + q * q_vv,
            ],
            axis=1,
        )

    def warp(self, matrix: np.ndarray) -> None:
        """Move with the camera: (2, 3) from pixels of the frame before to those of this one."""
        linear = matrix[:, :2]
        self.position = self.position @ linear.T + matrix[:, 2]
        self.velocity = self.velocity @ linear.T
        self.covariance = self.covariance * abs(np.linalg.det(linear))

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
        variance = self.covariance[:, 0, None] + np.broadcast_to(noise, len(measured))
        squared = np.square(np.subtract.outer(self.position[:, 0], measured[:, 0]))
        squared += np.square(np.subtract.outer(self.position[:, 1], measured[:, 1]))
        squared /= variance
        return squared, variance

    def update(self, rows: np.ndarray, measured: np.ndarray, noise: np.ndarray | float) -> None:
        """Take in the (r, 2) measurements of some of them, with (r,) variances."""
        pp, pv, vv = self.covariance[rows].T
        total = pp + noise
        gain_p, gain_v = pp / total, pv / total
        error = measured - self.position[rows]
        self.position[rows] += gain_p[:, None] * error
        self.velocity[rows] += gain_v[:, None] * error
        self.covariance[rows] = np.stack(
            [(1 - gain_p) * pp, (1 - gain_p) * pv, vv - gain_v * pv], axis=1
        )


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
