//! L-BFGS (Nocedal and Wright 2006, algorithm 7.5) for a smooth convex function.
//!
//! A pair of differences without positive curvature is not remembered. Leaves out bounds and functions that are not smooth.

use std::collections::VecDeque;

/// Pairs of differences that are remembered.
const MEMORY: usize = 10;

/// Steps at most.
const ITERATIONS_MAX: usize = 1000;

/// The largest entry of the gradient at which it stops: about the rounding of a mean in f32.
const GRADIENT_MAX: f64 = 1e-6;

/// The share of the slope that may be left where a step ends.
const SLOPE_LEFT: f64 = 0.25;

/// Points that are tried for a step, while the function has not fallen at all and after that.
const TRIALS_MAX: usize = 30;
const REFINEMENTS_MAX: usize = 6;

/// A point, the function's value there and its gradient.
type Point = (Vec<f64>, f64, Vec<f64>);

/// Where it stopped.
pub(super) struct Minimum {
    pub(super) at: Vec<f64>,
    pub(super) iterations: usize,
    /// The largest entry of the gradient.
    pub(super) gradient_max: f64,
}

/// Minimises a function that gives its value and gradient.
pub(super) fn minimise(start: Vec<f64>, function: impl Fn(&[f64]) -> (f64, Vec<f64>)) -> Minimum {
    let mut at = start;
    let (mut value, mut gradient) = function(&at);
    let mut memory: VecDeque<Pair> = VecDeque::new();
    let mut iterations = 0;
    while iterations < ITERATIONS_MAX && largest(&gradient) > GRADIENT_MAX {
        let direction = direction(&gradient, &memory);
        let slope = dot(&direction, &gradient);
        // The first step has no curvature to go by.
        let first = if memory.is_empty() { (1.0 / dot(&gradient, &gradient).sqrt()).min(1.0) } else { 1.0 };
        let Some((next, next_value, next_gradient)) = fall(&at, value, &direction, slope, first, &function)
        else {
            if memory.is_empty() {
                break;
            }
            // The rounding of the function has made the memory useless: once more, straight down.
            memory.clear();
            continue;
        };
        let step: Vec<f64> = next.iter().zip(&at).map(|(a, b)| a - b).collect();
        let change: Vec<f64> = next_gradient.iter().zip(&gradient).map(|(a, b)| a - b).collect();
        let curvature = dot(&step, &change);
        if curvature > 1e-12 * dot(&change, &change) {
            if memory.len() == MEMORY {
                memory.pop_front();
            }
            memory.push_back(Pair { step, change, curvature });
        }
        (at, value, gradient) = (next, next_value, next_gradient);
        iterations += 1;
    }
    Minimum { iterations, gradient_max: largest(&gradient), at }
}

/// A remembered step: what moved, how the gradient changed, and the product of both.
struct Pair {
    step: Vec<f64>,
    change: Vec<f64>,
    curvature: f64,
}

/// The direction of the next step, by the two loops of L-BFGS.
fn direction(gradient: &[f64], memory: &VecDeque<Pair>) -> Vec<f64> {
    let mut d: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut shares = Vec::with_capacity(memory.len());
    for pair in memory.iter().rev() {
        let share = dot(&pair.step, &d) / pair.curvature;
        add(&mut d, &pair.change, -share);
        shares.push(share);
    }
    if let Some(last) = memory.back() {
        let scale = last.curvature / dot(&last.change, &last.change);
        d.iter_mut().for_each(|v| *v *= scale);
    }
    for (pair, share) in memory.iter().zip(shares.into_iter().rev()) {
        let other = dot(&pair.change, &d) / pair.curvature;
        add(&mut d, &pair.step, share - other);
    }
    d
}

/// A step along `direction` where the function has fallen enough and its slope is near enough to 0 (the strong
/// conditions of Wolfe), found by the secant of the slopes; else the lowest point that was seen. `None`
/// when the function never fell, as at the limit of its rounding.
fn fall(
    at: &[f64],
    value: f64,
    direction: &[f64],
    slope: f64,
    first: f64,
    function: &impl Fn(&[f64]) -> (f64, Vec<f64>),
) -> Option<Point> {
    let mut step = first;
    let mut lowest: Option<Point> = None;
    for trial in 0..TRIALS_MAX {
        if lowest.is_some() && trial >= REFINEMENTS_MAX {
            break;
        }
        let mut next = at.to_vec();
        add(&mut next, direction, step);
        let (next_value, gradient) = function(&next);
        let next_slope = dot(direction, &gradient);
        let has_fallen = next_value.is_finite() && next_value <= value + 1e-4 * step * slope;
        if has_fallen && next_slope.abs() <= SLOPE_LEFT * slope.abs() {
            return Some((next, next_value, gradient));
        }
        if has_fallen && lowest.as_ref().is_none_or(|(_, value, _)| next_value < *value) {
            lowest = Some((next, next_value, gradient));
        }
        // Where the slope would be 0 if it changed evenly; a convex function's slope only grows.
        let secant = step * slope / (slope - next_slope);
        step = if secant.is_finite() { secant.clamp(0.1 * step, 10.0 * step) } else { 0.5 * step };
    }
    lowest
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], what: &[f64], times: f64) {
    to.iter_mut().zip(what).for_each(|(to, what)| *to += times * what);
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |largest, v| v.abs().max(largest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minimum_of_an_ill_conditioned_bowl_is_found() {
        // Σ cᵢ (xᵢ − i)² / 2 with curvatures from 1 to 10,000, coupled by their sum.
        let curvature = |i: usize| 10f64.powf(i as f64 * 4.0 / 19.0);
        let function = |x: &[f64]| {
            let sum: f64 = x.iter().enumerate().map(|(i, x)| x - i as f64).sum();
            let value = (0..20).map(|i| curvature(i) * (x[i] - i as f64).powi(2) / 2.0).sum::<f64>();
            let gradient = (0..20).map(|i| curvature(i) * (x[i] - i as f64) + sum).collect();
            (value + sum * sum / 2.0, gradient)
        };
        let minimum = minimise(vec![0.0; 20], function);
        assert!(minimum.gradient_max <= GRADIENT_MAX && minimum.iterations < 120, "{}", minimum.iterations);
        assert!(minimum.at.iter().enumerate().all(|(i, x)| (x - i as f64).abs() < 1e-5));
    }
}
