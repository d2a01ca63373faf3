//! The data of the sample API: courses, enrolments and progress.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Course {
    pub id: u32,
    pub title: String,
    pub difficulty: String,
    pub enrolled: u32,
}

/// The fields that a PATCH may change.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Change {
    pub title: Option<String>,
    pub difficulty: Option<String>,
}

#[derive(Debug)]
pub(super) struct Courses {
    courses: Vec<Course>,
    /// The courses of each user, with the progress in percent.
    progress: HashMap<String, BTreeMap<u32, u32>>,
}

const TITLES: [&str; 10] = [
    "Sourdough",
    "Bicycle repair",
    "Beekeeping",
    "Celestial navigation",
    "Bookbinding",
    "Knots",
    "Lock picking",
    "Mushrooms",
    "Type design",
    "Weather",
];

const DIFFICULTIES: [&str; 3] = ["beginner", "intermediate", "advanced"];

impl Default for Courses {
    /// Thirty courses: each title at each difficulty.
    fn default() -> Self {
        let pairs =
            DIFFICULTIES.iter().flat_map(|difficulty| TITLES.iter().map(move |title| (title, difficulty)));
        let courses = (1..).zip(pairs).map(|(id, (title, difficulty))| Course {
            id,
            title: (*title).to_string(),
            difficulty: (*difficulty).to_string(),
            enrolled: 0,
        });
        Self { courses: courses.collect(), progress: HashMap::new() }
    }
}

impl Courses {
    /// Returns a page of the courses of a difficulty (`any`: of all), and their total number.
    pub(super) fn list(&self, difficulty: &str, page: usize, limit: usize) -> (Vec<Course>, usize) {
        let chosen = |course: &&Course| difficulty == "any" || course.difficulty == difficulty;
        let all = self.courses.iter().filter(chosen);
        let skipped = page.saturating_sub(1).saturating_mul(limit);
        (all.clone().skip(skipped).take(limit).cloned().collect(), all.count())
    }

    pub(super) fn find(&self, id: u32) -> Option<&Course> {
        self.courses.iter().find(|course| course.id == id)
    }

    pub(super) fn change(&mut self, id: u32, change: Change) -> Option<&Course> {
        let course = self.courses.iter_mut().find(|course| course.id == id)?;
        course.title = change.title.unwrap_or(std::mem::take(&mut course.title));
        course.difficulty = change.difficulty.unwrap_or(std::mem::take(&mut course.difficulty));
        Some(course)
    }

    /// Enrols a user; does nothing if the user is enrolled already.
    pub(super) fn enroll(&mut self, id: u32, user: &str) -> Option<&Course> {
        let course = self.courses.iter_mut().find(|course| course.id == id)?;
        let progress = self.progress.entry(user.to_owned()).or_default();
        if progress.insert(id, 0).is_none() {
            course.enrolled += 1;
        }
        Some(course)
    }

    pub(super) fn progress(&self, user: &str) -> BTreeMap<u32, u32> {
        self.progress.get(user).cloned().unwrap_or_default()
    }
}
