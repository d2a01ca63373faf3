//! The sample API's data: courses, who is enrolled, and how far they are.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Course {
    pub id: u32,
    pub title: String,
    pub difficulty: String,
    pub enrolled: u32,
}

/// What a PATCH may change.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Change {
    pub title: Option<String>,
    pub difficulty: Option<String>,
}

#[derive(Debug)]
pub struct Courses {
    courses: Vec<Course>,
    /// By user: the courses that they take, and their percent.
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
    /// One page of those of a difficulty (`any`: of all), and how many there are in all.
    pub fn list(&self, difficulty: &str, page: usize, limit: usize) -> (Vec<Course>, usize) {
        let chosen = |course: &&Course| difficulty == "any" || course.difficulty == difficulty;
        let all = self.courses.iter().filter(chosen);
        let skipped = page.saturating_sub(1).saturating_mul(limit);
        (all.clone().skip(skipped).take(limit).cloned().collect(), all.count())
    }

    pub fn find(&self, id: u32) -> Option<&Course> {
        self.courses.iter().find(|course| course.id == id)
    }

    pub fn change(&mut self, id: u32, change: Change) -> Option<&Course> {
        let course = self.courses.iter_mut().find(|course| course.id == id)?;
        course.title = change.title.unwrap_or(std::mem::take(&mut course.title));
        course.difficulty = change.difficulty.unwrap_or(std::mem::take(&mut course.difficulty));
        Some(course)
    }

    /// Enrolling twice is enrolling once.
    pub fn enroll(&mut self, id: u32, user: &str) -> Option<&Course> {
        let course = self.courses.iter_mut().find(|course| course.id == id)?;
        let progress = self.progress.entry(user.to_owned()).or_default();
        if progress.insert(id, 0).is_none() {
            course.enrolled += 1;
        }
        Some(course)
    }

    pub fn progress(&self, user: &str) -> BTreeMap<u32, u32> {
        self.progress.get(user).cloned().unwrap_or_default()
    }
}
