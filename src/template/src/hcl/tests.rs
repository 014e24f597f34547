//! Whole templates, from text to plan.
